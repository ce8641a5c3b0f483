/**
 * A Redis that fails in the ways that a reader can meet, with real servers on real sockets. Each failure costs one reader one timeout
 * and then nothing; no reader sees an exception; no log line holds a secret; and the cache recovers by itself.
 */
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { startHttp } from '../../local/parts/http.ts';
import { systemRuntime } from '../../supabase/functions/_shared/cache/redis/runtime.ts';
import { type Cache, createCache } from '../../supabase/functions/_shared/cache.ts';
import { startUpstash, useUpstash } from '../support/upstash.ts';
import { type Fault, startUpstashFaults, type UpstashFaults } from '../worker/support/upstash-faults.ts';
import { eventually } from './conformance/support.ts';

const TOKEN = 'SECRET-token';
const KEY = 'quota:SECRET-org:openai:gpt-5';
const VALUE = 'SECRET-value';
/** For those that never answer. From all others a busy machine gets its answer in time. */
const TIMEOUT_MS = 100;

const upstash = useUpstash({ gateway: { token: TOKEN } });
let faults: UpstashFaults;

beforeAll(async () => {
  faults = await startUpstashFaults(upstash.gateway.url);
});

afterAll(() => faults?.close());

/** A cache whose clock can be moved on, and what it logs. */
function isolate({ url = faults.url, token = TOKEN, timeout = 10_000 } = {}) {
  const clock = { ahead: 0 };
  const lines: string[] = [];
  const errors: string[] = [];
  const cache = createCache({
    url,
    token,
    timeout,
    runtime: { ...systemRuntime, monotonic: () => performance.now() + clock.ahead },
    log: (line) => lines.push(line),
    onError: (error) => errors.push(error.code),
  });
  return { cache, clock, lines, errors };
}

async function everyReadSucceeds(cache: Cache): Promise<void> {
  expect(await cache.getOrSet(KEY, () => VALUE)).toBe(VALUE);
  expect(await cache.get(KEY)).toBeNull();
  expect(await cache.set(KEY, VALUE)).toBe(false);
  expect(await cache.del(KEY)).toBeNull();
  expect(await cache.delPattern('*')).toBeNull();
  expect(await cache.delPattern('quota:*:x')).toBeNull();
  expect((await cache.getOrSetMany([KEY], async () => ({ [KEY]: VALUE }))).get(KEY)).toBe(VALUE);
  expect((await cache.begin(KEY)).stamp).toBeNull();
}

const json = (status: number, body: unknown): Fault => ({
  kind: 'answer',
  status,
  body: JSON.stringify(body),
});
const text = (status: number, body: string): Fault => ({ kind: 'answer', status, body });
const html = '<html>SECRET-value, quota:SECRET-org</html>';

const troubles: readonly (readonly [string, Fault, RegExp])[] = [
  ['never answers', { kind: 'silent' }, /no answer in time/],
  ['breaks the connection', { kind: 'break' }, /UND_ERR_SOCKET|no connection/],
  ['answers 500', json(500, { error: 'ERR internal SECRET' }), /an error/],
  ['answers 500 with a page', text(500, html), /not JSON/],
  ['answers 200 with a page', text(200, html), /not JSON/],
  ['answers with truncated JSON', text(200, '{"result":["SECRET'), /not JSON/],
  ['answers with nothing', text(200, ''), /not JSON/],
  ['throttles', json(429, { error: 'ERR max requests limit exceeded. SECRET' }), /throttled/],
  ['refuses the token', json(401, { error: 'WRONGPASS invalid or missing auth token' }), /token was refused/],
  ['answers with null', text(200, 'null'), /no connection|unusable|an error/],
  ['answers with too few values', json(200, { result: [null] }), /unusable reply/],
  ['answers with numbers', json(200, { result: [1, 2, 3, 4] }), /unusable reply/],
  ['answers with an error and 200', json(200, { error: 'ERR SECRET' }), /an error/],
];

describe('a Redis that', () => {
  it.each(troubles)('%s', async (_, fault, described) => {
    faults.set(fault);
    const timeout = fault.kind === 'silent' ? TIMEOUT_MS : undefined;
    const { cache, clock, lines, errors } = isolate({ timeout });
    const asked = faults.requests.length;
    await everyReadSucceeds(cache);
    // One request in all, and a read without a connection once more: while the circuit is open no reader asks Redis, so none waits.
    expect(faults.requests.length - asked).toBe(fault.kind === 'break' ? 2 : 1);
    expect(errors).toHaveLength(1);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(described);
    expect(lines.join()).not.toMatch(/SECRET|http|127\.0\.0\.1/);

    faults.set({ kind: 'none' });
    clock.ahead += 40_000;
    await cache.getOrSet(KEY, () => VALUE);
    await eventually(
      async () => (await cache.getOrSet(KEY, () => VALUE)) === VALUE && cache.stats().commands > 1,
      'it heals',
    );
    // Stores again what a busy machine did not store in time.
    const isHit = async () =>
      (await cache.getOrSet(KEY, () => VALUE)) === VALUE && (await cache.lookup(KEY)).hit;
    await eventually(isHit, 'reads are hits again');
    await cache.del(KEY);
  });

  it('is not there at all', async () => {
    const { cache, lines } = isolate({ url: 'http://127.0.0.1:1' });
    await everyReadSucceeds(cache);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/ECONNREFUSED|no connection/);
  });

  it('has a name that does not resolve', async () => {
    const { cache, lines } = isolate({ url: 'http://redis.invalid' });
    await everyReadSucceeds(cache);
    expect(lines[0]).not.toMatch(/redis\.invalid|SECRET/);
  });

  it('sends its headers and then nothing', async () => {
    const truncated = await startHttp({
      name: 'truncated',
      listener: (_, response) => {
        response.writeHead(200, { 'content-type': 'application/json' });
        response.write('{"result":');
      },
    });
    onTestFinished(truncated.stop);
    const { cache, lines } = isolate({ url: truncated.url, timeout: TIMEOUT_MS });
    await everyReadSucceeds(cache);
    expect(lines[0]).toMatch(/no answer in time/);
  });

  it('refuses the token (as the real gateway does)', async () => {
    const { cache, lines } = isolate({ url: upstash.gateway.url, token: 'SECRET-other' });
    await everyReadSucceeds(cache);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/token was refused/);
    expect(await cache.ping()).toMatchObject({ enabled: true, connected: false });
  });

  it('is full: reads go on, writes are skipped, and the circuit stays closed', async () => {
    const full = await startUpstash({
      redis: { arguments: ['--maxmemory', '1', '--maxmemory-policy', 'noeviction'] },
      gateway: { token: TOKEN },
    });
    onTestFinished(full.stop);
    const { cache, lines } = isolate({ url: full.gateway.url });
    for (let round = 0; round < 3; round++) expect(await cache.getOrSet(KEY, () => VALUE)).toBe(VALUE);
    expect(full.gateway.requestCount()).toBeGreaterThanOrEqual(6);
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/memory is full/);
    expect(await cache.ping()).toMatchObject({ connected: true, problem: 'its memory is full' });
  });

  it.each([
    ["OOM command not allowed when used memory > 'maxmemory'.", /Redis refuses \(its memory is full\)/],
    ['ERR DB capacity quota exceeded', /Redis refuses \(its memory is full\)/],
    ['LOADING Redis is loading the dataset in memory', /Redis refuses \(it is loading its data\)/],
    [
      "READONLY You can't write against a read only replica.",
      /Redis refuses \(a replica, which takes no writes\)/,
    ],
  ])('says %s is named as what it is', async (error, named) => {
    faults.set(json(400, { error }));
    const { cache, lines } = isolate();
    expect(await cache.getOrSet(KEY, () => VALUE)).toBe(VALUE);
    expect(lines).toEqual([expect.stringMatching(named)]);
    expect((await cache.ping()).problem).toBe(/\((.*)\)/.exec(lines[0] ?? '')?.[1]);
  });

  it('is emptied is only a miss', async () => {
    faults.set({ kind: 'none' });
    const { cache } = isolate();
    await cache.getOrSet(KEY, () => 'first');
    expect(await cache.get(KEY)).toBe('first');
    await fetch(upstash.gateway.url, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}` },
      body: '["FLUSHALL"]',
    });
    expect(await cache.getOrSet(KEY, () => 'second')).toBe('second');
    expect(await cache.get(KEY)).toBe('second');
  });
});

describe('writes whose outcome is unknown', () => {
  it.each([
    ['the fences', /"nx"/i],
    ['the entry', /\\"v\\":1/],
  ])('are not relied on: the reply about %s is lost', async (_, only) => {
    const key = `session:${systemRuntime.randomToken()}:state`;
    faults.set({ kind: 'swallow-answer', only });
    const { cache } = isolate({ timeout: TIMEOUT_MS });
    expect(await cache.getOrSet(key, () => 'old')).toBe('old');
    faults.set({ kind: 'none' });
    const { cache: other } = isolate();
    await other.del(key);
    expect(await other.getOrSet(key, () => 'new')).toBe('new');
    expect(await other.get(key)).toBe('new');
  });
});

describe('without configuration', () => {
  it.each([
    ['nothing is set', {}],
    ['the token is missing', { UPSTASH_REDIS_REST_URL: 'http://127.0.0.1:1' }],
    ['the URL is no URL', { UPSTASH_REDIS_REST_URL: 'SECRET nonsense', UPSTASH_REDIS_REST_TOKEN: TOKEN }],
  ])('everything works, uncached, with one warning: %s', async (_, environment) => {
    vi.stubEnv('UPSTASH_REDIS_REST_URL', '');
    vi.stubEnv('UPSTASH_REDIS_REST_TOKEN', '');
    for (const [name, value] of Object.entries(environment)) vi.stubEnv(name, value);
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    vi.resetModules();
    const module: typeof import('../../supabase/functions/_shared/cache.ts') = await import(
      '../../supabase/functions/_shared/cache.ts'
    );
    let loads = 0;
    const outcomes: string[] = [];
    const options = { onOutcome: (_key: string, outcome: string) => outcomes.push(outcome) };
    for (let round = 0; round < 2; round++) {
      expect(await module.getOrSet(KEY, () => ++loads, 60, options)).toBe(round + 1);
    }
    expect(outcomes).toEqual(['disabled', 'disabled']);
    expect(await module.get(KEY)).toBeNull();
    expect(await module.set(KEY, 1)).toBe(false);
    expect(await module.ping()).toMatchObject({ enabled: false, connected: false, keyCount: 0 });
    expect(warn).toHaveBeenCalledTimes(1);
    expect(String(warn.mock.calls[0])).toMatch(/disabled/);
    expect(String(warn.mock.calls[0])).not.toMatch(/SECRET/);
    warn.mockRestore();
    vi.unstubAllEnvs();
  });
});
