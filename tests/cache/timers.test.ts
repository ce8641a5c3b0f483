/** A team's own tests stop the clock. A cache that is made and used meanwhile answers as ever, and waits no longer. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { type RedisPart, startRedis } from '../../local/parts/redis.ts';
import { createCache } from '../../supabase/functions/_shared/cache.ts';

let redis: RedisPart;
/** In a process of its own, whose timers run. */
let gateway: ChildProcess;
let url: string;
beforeAll(async () => {
  redis = await startRedis();
  gateway = fork(fileURLToPath(new URL('../../bench/support/gateway-process.ts', import.meta.url)), {
    execArgv: ['--import', 'tsx'],
    env: { ...process.env, REDIS_URL: redis.url, TOKEN: 'timers' },
  });
  [url] = await once(gateway, 'message');
});
beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});
afterAll(async () => {
  gateway.kill();
  await once(gateway, 'exit');
  await redis.stop();
});

const lines: string[] = [];
const cacheOf = (address: string, timeout = 10_000) =>
  createCache({ url: address, token: 'timers', timeout, log: (line) => lines.push(line) });

it('misses, hits and is well', async () => {
  const cache = cacheOf(url);
  expect(await cache.getOrSet('timers:1', () => 1)).toBe(1);
  expect(await cache.getOrSet('timers:1', () => 2)).toBe(1);
  expect(await cache.ping()).toMatchObject({ connected: true, problem: null });
});

it('waits for the load of another isolate, and no longer than its lease', async () => {
  const leader = cacheOf(url);
  let finish = () => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  let reading: Promise<string> | undefined;
  await new Promise<void>((begun) => {
    reading = leader.getOrSet('timers:2', async () => {
      begun();
      await finished;
      return 'leader';
    });
  });
  // The leader holds its lease until it has run out.
  expect(await cacheOf(url).getOrSet('timers:2', () => 'another')).toBe('another');
  finish();
  expect(await reading).toBe('leader');
});

it('gives a Redis up that does not answer', async () => {
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  await once(silent, 'listening');
  const address = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  expect(await cacheOf(address, 250).getOrSet('timers:3', () => 3)).toBe(3);
  expect(lines).toEqual([expect.stringContaining('no answer in time')]);
  silent.closeAllConnections();
  silent.close();
});

it('ends a load that takes too long', async () => {
  const hanging = cacheOf(url).getOrSet('timers:4', () => new Promise(() => {}), 60, { timeout: 50 });
  await expect(hanging).rejects.toMatchObject({ code: 'LOAD_TIMEOUT' });
});
