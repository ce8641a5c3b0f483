/**
 * How old an answer can be after a real failure: the real worker killed, the real Redis restored from a backup.
 * No test waits for a minute: the reader's clock is moved on, and the heartbeat is made to expire as Redis would.
 */
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from 'redis';
import { afterEach, describe, expect, it } from 'vitest';
import { startRedis } from '../../local/parts/redis.ts';
import {
  DEGRADED_MAX_AGE_SECONDS,
  EPOCH_KEY,
  HEARTBEAT_KEY,
  HEARTBEAT_TTL_SECONDS,
} from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { systemRuntime } from '../../supabase/functions/_shared/cache/redis/runtime.ts';
import { createCache, keys } from '../../supabase/functions/_shared/cache.ts';
import { startUpstash } from '../support/upstash.ts';
import { killAllWorkers, leading, startWorkerProcess } from '../worker/support/worker-process.ts';
import { fenceOf, startWorkerStack } from '../worker/support/worker-stack.ts';
import { eventually } from './conformance/support.ts';

afterEach(killAllWorkers);

/** A reader whose clock can be moved on, and Redis past it. */
function reader(url: string, token: string) {
  const clock = { ahead: 0 };
  const runtime = { ...systemRuntime, now: () => Date.now() + clock.ahead };
  const cache = createCache({ url, token, runtime, timeout: 5_000, log: () => {} });
  const redis = async (...command: (string | number)[]): Promise<unknown> => {
    const headers = { authorization: `Bearer ${token}` };
    const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(command) });
    return ((await response.json()) as { result?: unknown }).result;
  };
  return { clock, cache, redis };
}

/** SAVE, which a REST interface does not offer. */
async function backUp(url: string): Promise<void> {
  const client = createClient({ url });
  await client.connect();
  await client.sendCommand(['SAVE']);
  await client.close();
}

describe('a worker that is killed', () => {
  it('costs hit rate, not truth: nothing older than degradedMaxAge once its heartbeat has run out', async () => {
    const stack = await startWorkerStack();
    const { clock, cache, redis } = reader(stack.gateway.url, stack.gateway.token);
    const worker = startWorkerProcess(stack.environment());
    await leading(worker);
    await eventually(async () => (await redis('EXISTS', HEARTBEAT_KEY)) === 1, 'the worker beats');
    const [org = ''] = await stack.organisations(1);
    const used = async (): Promise<number> => {
      const { rows } = await stack.sql.query('select used from public.quotas where org_id = $1', [org]);
      return Number(rows[0]?.used);
    };
    const key = keys.quota(org, 'openai', 'gpt');
    const read = () => cache.getOrSet(key, used);

    // Alive: a committed write makes the cached answer unreadable.
    expect([await read(), await read()]).toEqual([0, 0]);
    await stack.write([org]);
    await stack.fences.deleted([fenceOf(org)]);
    expect([await read(), await read()]).toEqual([1, 1]);

    // Killed: readers trust the heartbeat that it left until that expires.
    await worker.kill();
    await stack.write([org]);
    expect(await read()).toBe(1);
    const left = Number(await redis('TTL', HEARTBEAT_KEY));
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(HEARTBEAT_TTL_SECONDS);
    clock.ahead += HEARTBEAT_TTL_SECONDS * 1_000;
    await redis('PEXPIRE', HEARTBEAT_KEY, 1);
    await eventually(async () => (await redis('EXISTS', HEARTBEAT_KEY)) === 0, 'the heartbeat has run out');
    expect(await read()).toBe(2);

    // From now on nothing older than degradedMaxAge.
    await stack.write([org]);
    expect(await read()).toBe(2);
    clock.ahead += DEGRADED_MAX_AGE_SECONDS * 1_000 + 1;
    expect(await read()).toBe(3);

    // Back: a new epoch, and nothing from before it.
    await stack.write([org]);
    const successor = startWorkerProcess(stack.environment());
    await leading(successor);
    await eventually(async () => (await redis('EXISTS', HEARTBEAT_KEY)) === 1, 'the successor beats');
    expect(await read()).toBe(4);
    await successor.kill();
    await stack.close();
  });
});

describe("delPattern('*') by an application", () => {
  it('is answered by the worker with an epoch that Postgres knows, and nothing from before it comes back', async () => {
    const stack = await startWorkerStack();
    const { cache, redis } = reader(stack.gateway.url, stack.gateway.token);
    const worker = startWorkerProcess(
      stack.environment({ FENCEPOST_HEARTBEAT_SECONDS: '1', FENCEPOST_FALLBACK_POLL_SECONDS: '0.2' }),
    );
    await leading(worker);
    // Its first epoch is logged with the same reason.
    await worker.line((line) => line.reason === 'the heartbeat was missing');
    const before = await redis('GET', EPOCH_KEY);
    const key = keys.quota('org-1', 'openai', 'gpt');
    await cache.getOrSet(key, () => 'old');

    const from = worker.lines.length;
    expect(await cache.delPattern('*')).toBeUndefined();
    expect(await cache.get(key)).toBeNull();
    await worker.line((line) => line.reason === 'the heartbeat was missing', from);
    const { rows } = await stack.sql.query('select value from cache_invalidation.epoch');
    const after = await redis('MGET', EPOCH_KEY, HEARTBEAT_KEY);
    expect(after).toEqual([rows[0]?.value, rows[0]?.value]);
    expect(rows[0]?.value).not.toBe(before);
    expect(await cache.get(key)).toBeNull();
    await worker.kill();
    await stack.close();
  });
});

describe('a Redis restored from a backup', () => {
  it('serves nothing from it, neither before the worker looks nor after', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'fencepost-restore-'));
    const { gateway, redis: first } = await startUpstash({ redis: { directory: folder } });
    const { clock, cache, redis } = reader(gateway.url, gateway.token);
    const key = keys.quota('org-1', 'openai', 'gpt');
    await redis('SET', EPOCH_KEY, 'epoch-1');
    await redis('SET', HEARTBEAT_KEY, 'epoch-1', 'EX', HEARTBEAT_TTL_SECONDS);
    await cache.getOrSet(key, () => 'old', 86_400);
    expect(await cache.get(key)).toBe('old');
    // As in a backup of some hours ago, whose heartbeat is over when it is restored.
    await redis('PEXPIRE', HEARTBEAT_KEY, 500);
    await backUp(first.url);
    await copyFile(join(folder, 'dump.rdb'), join(folder, 'backup.rdb'));

    // The old value is invalidated after the backup was taken.
    await redis('SET', HEARTBEAT_KEY, 'epoch-1', 'EX', HEARTBEAT_TTL_SECONDS);
    await cache.del(key);
    await cache.getOrSet(key, () => 'new', 86_400);
    await first.stop();

    await copyFile(join(folder, 'backup.rdb'), join(folder, 'dump.rdb'));
    const restored = await startRedis({ directory: folder, port: first.port });
    clock.ahead += 3_600_000;
    await eventually(
      async () => (await redis('EXISTS', HEARTBEAT_KEY)) === 0,
      "the backup's heartbeat has run out",
    );
    expect(await redis('EXISTS', key, 'fence:quota', 'fence:quota:org-1')).toBe(3);
    const successor = reader(gateway.url, gateway.token);
    successor.clock.ahead = clock.ahead;
    expect(await successor.cache.get(key)).toBeNull();

    // The worker reads back nothing, so it starts another epoch.
    await redis('SET', EPOCH_KEY, 'epoch-2');
    await redis('SET', HEARTBEAT_KEY, 'epoch-2', 'EX', HEARTBEAT_TTL_SECONDS);
    expect(await successor.cache.get(key)).toBeNull();
    expect(await successor.cache.getOrSet(key, () => 'true')).toBe('true');
    await gateway.stop();
    await restored.stop();
    await rm(folder, { recursive: true, force: true });
  });
});
