/**
 * The functions in a project without a shared secret: tokens with an asymmetric signature, publishable and secret keys. Requests go
 * all the way to Postgres, so row-level security must see the identity that the function has verified.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type FunctionsPart, startFunctions } from '../../local/parts/functions.ts';
import { USERS } from './support/callers.ts';
import { type Platform, PUBLISHABLE_KEY, SECRET_KEY, startPlatform } from './support/platform.ts';
import { type FunctionStack, startFunctionStack } from './support/stack.ts';

let stack: FunctionStack;
let platform: Platform;
let functions: FunctionsPart;

beforeAll(async () => {
  stack = await startFunctionStack();
  platform = await startPlatform(stack.databaseUrl);
  functions = await startFunctions({
    environment: {
      SUPABASE_URL: platform.url,
      SUPABASE_PUBLISHABLE_KEYS: JSON.stringify({ mobile: 'sb_publishable_other', default: PUBLISHABLE_KEY }),
      SUPABASE_SECRET_KEYS: JSON.stringify({ default: SECRET_KEY }),
      UPSTASH_REDIS_REST_URL: stack.gateway.url,
      UPSTASH_REDIS_REST_TOKEN: stack.gateway.token,
      FENCEPOST_CACHE_TIMEOUT_MS: '10000',
      FENCEPOST_ALLOWED_ORIGINS: 'https://app.example, https://admin.example/, https://*.preview.example',
    },
    onLine: (name, line) => console.error(name, line),
  });
});
afterAll(async () => {
  await functions?.stop();
  await platform?.stop();
  await stack?.stop();
});

const quota = new URLSearchParams({ org: 'org-acme', provider: 'openai', model: 'gpt-5-mini' });
const ask = (headers: Record<string, string>, path = `quota-check?${quota}`) =>
  fetch(`${functions.url}/${path}`, { headers });

it('answers a user of the project, on a miss and on a hit, and fetches the key set once', async () => {
  const token = await platform.sign({ role: 'authenticated', sub: USERS.member });
  const headers = { authorization: `Bearer ${token}`, apikey: PUBLISHABLE_KEY };
  const answers = [await ask(headers), await ask(headers), await ask(headers)];
  expect(answers.map((answer) => [answer.status, answer.headers.get('x-cache')])).toEqual([
    [200, 'MISS'],
    [200, 'HIT'],
    [200, 'HIT'],
  ]);
  expect(platform.keySetRequests()).toBe(1);
});

it('refuses a stranger of the same project', async () => {
  const token = await platform.sign({ role: 'authenticated', sub: USERS.stranger });
  expect((await ask({ authorization: `Bearer ${token}` })).status).toBe(403);
});

it('takes a secret key for the service, in either header', async () => {
  await stack.emptyCache();
  const first = await ask({ apikey: SECRET_KEY });
  const second = await ask({ authorization: `Bearer ${SECRET_KEY}` });
  expect([first.status, first.headers.get('x-cache')]).toEqual([200, 'MISS']);
  expect([second.status, second.headers.get('x-cache')]).toEqual([200, 'HIT']);
});

it.each([
  ['a publishable key', { apikey: PUBLISHABLE_KEY }],
  ['another publishable key of the project', { apikey: 'sb_publishable_other' }],
  ['a secret key of another project', { apikey: 'sb_secret_of_another_project' }],
  ['a secret key but for its last letter', { apikey: SECRET_KEY.slice(0, -1) }],
])('refuses %s', async (_what, headers) => {
  expect((await ask(headers)).status).toBe(401);
});

it('answers health-check to anybody', async () => {
  expect((await ask({}, 'health-check')).status).toBe(200);
});

it('allows browsers of the configured origins only', async () => {
  const preflight = (origin: string) =>
    fetch(`${functions.url}/quota-check`, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'GET',
        'access-control-request-headers': 'authorization',
      },
    });
  const allowed = await preflight('https://admin.example');
  expect(allowed.status).toBe(204);
  expect(Object.fromEntries(allowed.headers)).toMatchObject({
    'access-control-allow-origin': 'https://admin.example',
    'access-control-allow-methods': 'GET, HEAD, POST, OPTIONS',
    // Each header that supabase-js 2.119 sends, with traces on and in a repeated request.
    'access-control-allow-headers':
      'authorization, apikey, content-type, x-client-info, x-region, traceparent, tracestate, baggage, x-retry-count',
    vary: 'origin',
  });
  const preview = await preflight('https://branch-1.preview.example');
  expect(preview.headers.get('access-control-allow-origin')).toBe('https://branch-1.preview.example');
  for (const origin of [
    'https://evil.example',
    'https://app.example.evil.example',
    'https://preview.example',
    'null',
  ]) {
    expect((await preflight(origin)).headers.has('access-control-allow-origin')).toBe(false);
  }
  // Errors have the header too, or the browser would hide them from the page.
  const refused = await ask({ origin: 'https://app.example' });
  expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([
    401,
    'https://app.example',
  ]);
  expect(refused.headers.get('access-control-expose-headers')).toContain('x-cache');
});

it.each([
  ['missing', {}, 'Set SUPABASE_PUBLISHABLE_KEYS or SUPABASE_ANON_KEY.'],
  [
    'in quotes',
    { SUPABASE_ANON_KEY: '"anon"' },
    'SUPABASE_ANON_KEY stands in quotes, which are part of the value here: leave them out.',
  ],
])('answers with the name of a setting that is %s', async (_what, environment, detail) => {
  const incomplete = await startFunctions({ environment: { SUPABASE_URL: platform.url, ...environment } });
  try {
    const answer = await fetch(`${incomplete.url}/quota-check?${quota}`);
    expect(answer.status).toBe(503);
    expect(await answer.json()).toMatchObject({ code: 'MISCONFIGURED', detail });
  } finally {
    await incomplete.stop();
  }
});
