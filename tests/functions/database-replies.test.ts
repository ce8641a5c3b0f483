/** What callers get when the API in front of the database refuses, fails, or does not answer. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type FunctionsPart, startFunctions } from '../../local/parts/functions.ts';
import { JWT_SECRET, tokensFor } from './support/callers.ts';

const quota = { org: 'org-acme', provider: 'openai', model: 'gpt-5-mini' };

let api: Server;
let reply: { status: number; headers?: Record<string, string>; body: string } | 'silence';
/** Requests that came in during the silence. */
let unanswered = 0;
let functions: FunctionsPart;
let token: string;

// A stand-in, because no real part throttles or sends malformed replies on demand.
beforeAll(async () => {
  api = createServer((_request, response) => {
    if (reply === 'silence') {
      unanswered += 1;
      return;
    }
    response.writeHead(reply.status, { 'content-type': 'application/json', ...reply.headers });
    response.end(reply.body);
  });
  await new Promise<void>((resolve) => api.listen(0, '127.0.0.1', resolve));
  const apiUrl = `http://127.0.0.1:${(api.address() as AddressInfo).port}`;
  const tokens = await tokensFor(JWT_SECRET, apiUrl);
  token = tokens.member ?? '';
  functions = await startFunctions({
    environment: {
      SUPABASE_URL: apiUrl,
      SUPABASE_ANON_KEY: 'anon',
      FENCEPOST_JWT_SECRET: JWT_SECRET,
      // Longer than any test, so that only the limit of health-check can end the wait.
      FENCEPOST_DATABASE_TIMEOUT_MS: '600000',
    },
  });
});
afterAll(async () => {
  await functions?.stop();
  api.closeAllConnections();
  await new Promise((resolve) => api.close(resolve));
});

const ask = async (name = 'quota-check') => {
  const query = name === 'quota-check' ? `?${new URLSearchParams(quota)}` : '';
  const response = await fetch(`${functions.url}/${name}${query}`, {
    headers: { authorization: `Bearer ${token}` },
  });
  return { status: response.status, headers: response.headers, body: await response.json() };
};

it('passes on throttling, with the time to wait', async () => {
  reply = { status: 429, headers: { 'retry-after': '17' }, body: '{"message":"secret detail"}' };
  const answer = await ask();
  expect(answer).toMatchObject({ status: 429, body: { code: 'RATE_LIMITED' } });
  expect(answer.headers.get('retry-after')).toBe('17');
  expect(JSON.stringify(answer.body)).not.toContain('secret detail');
});

it.each([
  [401, '{"code":"PGRST303","message":"JWT expired"}', 401, 'TOKEN_INVALID'],
  [403, '{"code":"42501","message":"permission denied for table quotas"}', 403, 'FORBIDDEN'],
  // What no second try mends: migrations that are not applied, or that the API has not seen yet.
  [404, '{"code":"PGRST202","message":"no function quota_answer"}', 503, 'MISCONFIGURED'],
  [404, '{"code":"PGRST205","message":"no table quotas"}', 503, 'MISCONFIGURED'],
  [406, '{"code":"PGRST106","message":"schema not exposed"}', 503, 'MISCONFIGURED'],
  [404, '{"code":"42883","message":"function quota_answer does not exist"}', 503, 'MISCONFIGURED'],
  [404, '{"code":"42P01","message":"relation quotas does not exist"}', 503, 'MISCONFIGURED'],
  [400, '{"code":"42703","message":"column quotas.used does not exist"}', 503, 'MISCONFIGURED'],
  [500, '{"code":"XX000","message":"secret detail"}', 503, 'DATABASE_UNAVAILABLE'],
  [503, '{"code":"PGRST001"}', 503, 'DATABASE_UNAVAILABLE'],
  [502, '<html>Bad gateway</html>', 503, 'DATABASE_UNAVAILABLE'],
  [200, '<html>Not JSON</html>', 503, 'DATABASE_UNAVAILABLE'],
])('answers %i %s with %i', async (status, body, expected, code) => {
  reply = { status, body };
  const answer = await ask();
  expect(answer).toMatchObject({ status: expected, body: { code } });
  expect(JSON.stringify(answer.body)).not.toMatch(/secret|PGRST|quota|html/);
  // Who is told to wait may try again; nobody need wait for a migration.
  if (expected === 503) expect(answer.headers.has('retry-after')).toBe(code === 'DATABASE_UNAVAILABLE');
});

it('does not call a database away that lacks the function of health-check', async () => {
  reply = { status: 404, body: '{"code":"PGRST202"}' };
  // A result is served again for 1 s.
  await expect
    .poll(() => ask('health-check'))
    .toMatchObject({ status: 503, body: { code: 'MISCONFIGURED' } });
});

it('calls the service unhealthy, with 503', async () => {
  reply = { status: 500, body: '{}' };
  await expect
    .poll(() => ask('health-check'))
    .toMatchObject({ status: 503, body: { status: 'unhealthy', database: { connected: false } } });
});

it('does not wait for a silent database as long as a load would', async () => {
  reply = 'silence';
  unanswered = 0;
  // health-check serves the result of the test before again for 1 s, so only one that came after a silent request counts.
  const health = async () => ({ ...(await ask('health-check')), wasAsked: unanswered > 0 });
  await expect.poll(health).toMatchObject({
    wasAsked: true,
    status: 503,
    body: { status: 'unhealthy', database: { connected: false, latencyMs: null } },
  });
});
