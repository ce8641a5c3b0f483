/**
 * What callers get when a part behind the functions is away: right answers without the cache, honest errors without the
 * database, and a health check that says which.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startFunctions } from '../../local/parts/functions.ts';
import { tokensFor } from './support/callers.ts';
import { type FunctionStack, JWT_SECRET, startFunctionStack } from './support/stack.ts';

const quota = { org: 'org-acme', provider: 'openai', model: 'gpt-5-mini' };

describe('with everything there', () => {
  let stack: FunctionStack;
  beforeAll(async () => {
    stack = await startFunctionStack();
  });
  afterAll(() => stack?.stop());

  it('is healthy, and says so to anyone, and nothing else', async () => {
    await stack.call('quota-check', quota, { as: 'member' });
    const called = await stack.call('health-check');
    expect([called.status, called.body]).toMatchObject([
      200,
      {
        status: 'healthy',
        cache: {
          enabled: true,
          connected: true,
          keyCount: expect.any(Number),
          latencyMs: expect.any(Number),
        },
        database: { connected: true, latencyMs: expect.any(Number) },
        worker: { alive: true, secondsBehind: 0 },
      },
    ]);
    expect((called.body as { cache: { keyCount: number } }).cache.keyCount).toBeGreaterThan(0);
    // Numbers, yes or no, and one word: nothing that names a place or a secret.
    const words: string[] = [];
    JSON.parse(called.text, (_name, value) => (typeof value === 'string' ? words.push(value) : value));
    expect(words).toEqual(['healthy']);
  });

  it('answers a hit with one command in one request, membership included', async () => {
    for (const name of ['quota-check', 'usage-summary'] as const) {
      const day = new Date().toISOString().slice(0, 10);
      const parameters = name === 'quota-check' ? quota : { org: 'org-acme', start: day, end: day };
      await stack.call(name, parameters, { as: 'member' });
      // The worker's own commands must not count: ask until a hit was alone.
      await expect
        .poll(async () => {
          const [commands, requests] = [stack.gateway.commandCount(), stack.gateway.requestCount()];
          const hit = await stack.call(name, parameters, { as: 'member' });
          expect(hit.headers.get('x-cache')).toBe('HIT');
          return [stack.gateway.commandCount() - commands, stack.gateway.requestCount() - requests];
        })
        .toEqual([1, 1]);
    }
  });

  it('tells where the time went', async () => {
    const called = await stack.call('quota-check', quota, { as: 'member' });
    expect(called.headers.get('server-timing')).toMatch(
      /^auth;dur=[\d.]+, read;dur=[\d.]+, total;dur=[\d.]+$/,
    );
    await stack.emptyCache();
    const loaded = await stack.call('quota-check', quota, { as: 'member' });
    expect(loaded.headers.get('server-timing')).toMatch(/, db;dur=[\d.]+/);
    expect(called.headers.get('cache-control')).toBe('private, no-store');
  });
});

describe('when parts go away', () => {
  let stack: FunctionStack;
  afterEach(() => stack?.stop());

  it('answers from the database while the cache is away, and calls that degraded', async () => {
    stack = await startFunctionStack();
    await stack.call('quota-check', quota, { as: 'member' });
    await stack.gateway.stop();
    for (const [name, parameters] of [
      ['quota-check', quota],
      ['cost-estimate', { provider: 'openai', model: 'gpt-5-mini', input_tokens: 1, output_tokens: 1 }],
      ['session-state', { id: 'session-acme-1' }],
      ['user-preferences', {}],
    ] as const) {
      const called = await stack.call(name, parameters, { as: 'member' });
      expect([name, called.status]).toEqual([name, 200]);
    }
    const bypassed = await stack.call('quota-check', quota, { as: 'member' });
    expect([bypassed.status, bypassed.headers.get('x-cache')]).toEqual([200, 'BYPASS']);
    // And refuses as before: without a cache the database decides alone.
    expect((await stack.call('quota-check', quota, { as: 'stranger' })).status).toBe(403);
    expect((await stack.call('session-state', { id: 'session-acme-1' }, { as: 'stranger' })).status).toBe(
      404,
    );

    const health = await stack.call('health-check');
    expect([health.status, health.body]).toMatchObject([
      200,
      {
        status: 'degraded',
        cache: { enabled: true, connected: false, keyCount: 0 },
        worker: { alive: null },
      },
    ]);
    expect(stack.lines.join('\n')).not.toMatch(/eyJ|token-of-the-tests|org-acme|gpt-5-mini/);
  });

  it('works without a cache at all', async () => {
    stack = await startFunctionStack({
      worker: false,
      environment: { UPSTASH_REDIS_REST_URL: '', UPSTASH_REDIS_REST_TOKEN: '' },
    });
    const called = await stack.call('quota-check', quota, { as: 'member' });
    expect([called.status, called.headers.get('x-cache')]).toEqual([200, 'BYPASS']);
    expect((await stack.call('health-check')).body).toMatchObject({
      status: 'degraded',
      cache: { enabled: false, connected: false, keyCount: 0 },
    });
  });

  it('never answers from a membership that no worker guards', async () => {
    stack = await startFunctionStack({ worker: false });
    await stack.call('quota-check', quota, { as: 'member' });
    const second = await stack.call('quota-check', quota, { as: 'member' });
    expect([second.status, second.headers.get('x-cache')]).toEqual([200, 'MISS']);
    await stack.sql("delete from public.org_members where org_id = 'org-acme'");
    // Nothing was invalidated, and still: out at once.
    expect((await stack.call('quota-check', quota, { as: 'member' })).status).toBe(403);
    expect((await stack.call('health-check')).body).toMatchObject({
      status: 'degraded',
      worker: { alive: false },
    });
  });

  it('shows how far the worker is behind', async () => {
    stack = await startFunctionStack({ worker: false });
    await stack.sql("update public.quotas set used = used + 1 where org_id = 'org-acme'");
    const { worker } = (await stack.call('health-check')).body as { worker: { secondsBehind: number } };
    expect(worker.secondsBehind).toBeGreaterThan(0);
  });

  it('goes on answering hits while the database is away, says 503 to the rest, and calls that unhealthy', async () => {
    stack = await startFunctionStack();
    await stack.call('quota-check', quota, { as: 'member' });
    await stack.call('quota-check', quota, { as: 'member' });
    await stack.api.stop();
    const hit = await stack.call('quota-check', quota, { as: 'member' });
    expect([hit.status, hit.headers.get('x-cache')]).toEqual([200, 'HIT']);
    // The owner's membership is not cached, and nothing but the database can vouch for it.
    expect(await stack.call('quota-check', quota, { as: 'owner' })).toMatchObject({
      status: 503,
      body: { code: 'DATABASE_UNAVAILABLE' },
    });
    expect(await stack.call('health-check')).toMatchObject({
      status: 503,
      body: {
        status: 'unhealthy',
        database: { connected: false, latencyMs: null },
        cache: { connected: true },
      },
    });
    expect(stack.lines.join('\n')).not.toMatch(/eyJ|127\.0\.0\.1|org-acme/);
  });
});

describe('what the API in front of the database says', () => {
  let api: Server;
  let reply: { status: number; headers?: Record<string, string>; body: string } | 'silence';
  let functions: Awaited<ReturnType<typeof startFunctions>>;
  let token: string;

  // A stand-in, because no real part can be made to throttle or to talk nonsense on demand.
  beforeAll(async () => {
    api = createServer((_request, response) => {
      if (reply === 'silence') return;
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
        // Longer than any test may take.
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
    [404, '{"code":"PGRST202","message":"no function"}', 503, 'DATABASE_UNAVAILABLE'],
    [500, '{"code":"XX000","message":"secret detail"}', 503, 'DATABASE_UNAVAILABLE'],
    [503, '{"code":"PGRST001"}', 503, 'DATABASE_UNAVAILABLE'],
    [502, '<html>Bad gateway</html>', 503, 'DATABASE_UNAVAILABLE'],
    [200, '<html>Not JSON</html>', 503, 'DATABASE_UNAVAILABLE'],
  ])('answers %i %s with %i', async (status, body, expected, code) => {
    reply = { status, body };
    const answer = await ask();
    expect(answer).toMatchObject({ status: expected, body: { code } });
    expect(JSON.stringify(answer.body)).not.toMatch(/secret|PGRST|quotas|html/);
  });

  it('calls the service unhealthy, with 503', async () => {
    reply = { status: 500, body: '{}' };
    expect(await ask('health-check')).toMatchObject({
      status: 503,
      body: { status: 'unhealthy', database: { connected: false } },
    });
  });

  it('does not wait for a silent database as long as a load would', async () => {
    reply = 'silence';
    // What was found out a moment ago counts for a second.
    await expect
      .poll(() => ask('health-check'), { timeout: 20_000 })
      .toMatchObject({
        status: 503,
        body: { status: 'unhealthy', database: { connected: false, latencyMs: null } },
      });
  });
});
