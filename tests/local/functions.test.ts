/** The edge functions' runtime with functions made for it (fixtures/functions), under the real Deno. */
import { existsSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type FunctionsPart, startFunctions } from '../../local/parts/functions.ts';

let functions: FunctionsPart;
const lines: string[] = [];

beforeAll(async () => {
  functions = await startFunctions({
    folder: fileURLToPath(new URL('fixtures/functions', import.meta.url)),
    environment: { SUPABASE_URL: 'http://127.0.0.1:1', CACHE_PREFIX: '' },
    onLine: (name, line) => lines.push(`${name}: ${line}`),
  });
});

afterAll(async () => {
  await functions?.stop();
});

const origin = () => new URL(functions.url).origin;

test('names are the folders with an index.ts, without the shared ones', () => {
  expect([...functions.names].sort()).toEqual(['echo', 'fails-to-start', 'misbehaves']);
});

test('a function runs with its own packages, offline, and sees only the environment it is given', async () => {
  const response = await fetch(`${functions.url}/echo/deep?a=1&b=%2F`, {
    method: 'POST',
    body: '{"x":"é"}',
    headers: { authorization: 'Bearer t' },
  });
  expect(response.status).toBe(201);
  expect(response.headers.get('x-cache')).toBe('MISS');
  const seen = (await response.json()) as { environment: Record<string, string> };
  expect(seen).toMatchObject({
    url: '/echo/deep?a=1&b=%2F',
    method: 'POST',
    authorization: 'Bearer t',
    body: '{"x":"é"}',
    packages: ['function', 'function', true],
    canWrite: false,
  });
  expect(seen.environment).toMatchObject({ SUPABASE_URL: 'http://127.0.0.1:1', CACHE_PREFIX: '' });
  expect(Object.keys(seen.environment)).not.toContain('HOME');
  expect(existsSync('written-by-a-function')).toBe(false);
});

test('the prefix may be missing or doubled', async () => {
  for (const path of ['/echo', '/functions/v1/echo', '/functions/v1/functions/v1/echo']) {
    expect(await (await fetch(origin() + path)).json()).toMatchObject({ url: '/echo' });
  }
});

test('a function keeps its module state between requests and shares it with nobody', async () => {
  const first = (await (await fetch(`${functions.url}/echo`)).json()) as { requests: number };
  const second = (await (await fetch(`${functions.url}/echo`)).json()) as { requests: number };
  expect(second.requests).toBe(first.requests + 1);
});

test('an answer before the request was read to its end does not block the connection', async () => {
  // One connection for all of these, as an agent with keep-alive has it.
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const post = (path: string, body: string): Promise<number | undefined> =>
    new Promise((resolve, reject) => {
      const onward = request(functions.url + path, { agent, method: 'POST' }, (answer) => {
        answer.resume().on('end', () => resolve(answer.statusCode));
      });
      onward.on('error', reject).end(body);
    });
  const statuses: (number | undefined)[] = [];
  for (let round = 0; round < 3; round += 1) {
    statuses.push(await post('/misbehaves?what=refuse', 'x'.repeat(4_000_000)));
    statuses.push(await post('/misbehaves', '{}'));
  }
  agent.destroy();
  expect(statuses).toEqual([413, 200, 413, 200, 413, 200]);
});

test('an unknown function is not found', async () => {
  for (const path of ['/nothing', '/_shared', '/', '/..%2Fecho', '/echo%2F..']) {
    const response = await fetch(functions.url + path);
    expect([response.status, await response.json()]).toEqual([
      404,
      { code: 'NOT_FOUND', message: 'Requested function was not found' },
    ]);
  }
});

test('a function that throws answers 500 and goes on', async () => {
  expect((await fetch(`${functions.url}/misbehaves?what=throw`)).status).toBe(500);
  expect(await (await fetch(`${functions.url}/misbehaves`)).text()).toBe('fine');
  expect(lines.join('\n')).toContain('as asked');
});

test('failing background work is logged and ends nothing', async () => {
  expect(await (await fetch(`${functions.url}/misbehaves?what=background`)).text()).toBe('fine');
  await expect.poll(() => lines.join('\n')).toContain('in the background');
  expect(await (await fetch(`${functions.url}/misbehaves`)).text()).toBe('fine');
});

test('a function whose process ends is started again by the next request', async () => {
  expect((await fetch(`${functions.url}/misbehaves?what=exit`)).status).toBe(502);
  await expect.poll(async () => (await fetch(`${functions.url}/misbehaves`)).status).toBe(200);
});

test('a function that does not start is a 503 with its reason in the log, and the others work', async () => {
  await functions.warm();
  const response = await fetch(`${functions.url}/fails-to-start`);
  expect([response.status, await response.json()]).toMatchObject([503, { code: 'BOOT_ERROR' }]);
  expect(lines.join('\n')).toContain('cannot start');
  expect((await fetch(`${functions.url}/echo`)).status).toBe(201);
});
