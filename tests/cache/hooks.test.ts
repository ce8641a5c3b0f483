/** An application's hooks may fail; readers are answered all the same. */
import { expect, it, onTestFinished } from 'vitest';
import { createCache } from '../../supabase/functions/_shared/cache.ts';
import { startUpstash } from '../support/upstash.ts';

const fail = () => {
  throw new Error('the hook is broken');
};

it('answers though onOutcome throws, and leaves no load behind that later readers would wait for', async () => {
  const { gateway, stop } = await startUpstash();
  onTestFinished(stop);
  const cache = createCache({ url: gateway.url, token: gateway.token, timeout: 5_000 });
  const load = async (missing: readonly string[]) => new Map(missing.map((key) => [key, key]));
  const first = await cache.getOrSetMany(['a:1', 'b:1'], load, 60, { onOutcome: fail });
  expect(first.get('b:1')).toBe('b:1');
  expect(await cache.getOrSet('a:1', () => 'again')).toBe('a:1');
});

it('answers though the log throws', async () => {
  const cache = createCache({ url: 'http://127.0.0.1:9', token: 'hooks', log: fail });
  expect(await cache.get('a:1')).toBeNull();
  expect(await cache.getOrSet('a:1', () => 'loaded')).toBe('loaded');
  expect(await createCache({ url: 'no address', token: 'hooks', log: fail }).getOrSet('a:1', () => 1)).toBe(
    1,
  );
});

it.each([
  ['throws', fail],
  ['rejects', async () => fail()],
])('a waitUntil that %s reaches nobody', async (_what, waitUntil) => {
  const unhandled: unknown[] = [];
  const hear = (reason: unknown) => unhandled.push(reason);
  process.on('unhandledRejection', hear);
  const platform = globalThis as { EdgeRuntime?: unknown };
  platform.EdgeRuntime = { waitUntil };
  onTestFinished(() => {
    process.off('unhandledRejection', hear);
    delete platform.EdgeRuntime;
  });
  const cache = createCache({ url: 'http://127.0.0.1:9', token: 'hooks', log: () => {} });
  expect(await cache.getOrSet('a:1', () => 'loaded')).toBe('loaded');
  expect(await cache.getOrSetMany(['a:1'], () => ({ 'a:1': 2 }))).toEqual(new Map([['a:1', 2]]));
  await new Promise((resolve) => setImmediate(resolve));
  expect(unhandled).toEqual([]);
});

it('survives hooks and a log that reject', async () => {
  const unhandled: unknown[] = [];
  const hear = (reason: unknown) => unhandled.push(reason);
  process.on('unhandledRejection', hear);
  onTestFinished(() => {
    process.off('unhandledRejection', hear);
  });
  const called: string[] = [];
  const reject = (name: string) => async () => {
    called.push(name);
    throw new Error(`the telemetry of ${name} is down`);
  };
  const connection = {
    getMany: async (names: readonly string[]) => {
      if (names.includes('away:1')) throw new Error('connection reset');
      // Only the fences and the epoch exist; `hit:1` has an entry under them.
      const entry = '{"v":1,"f":["r","r","r"],"e":"r","t":0,"d":1}';
      return names.map((name) => (name.startsWith('fence') ? 'r' : name === 'hit:1' ? entry : null));
    },
    write: async (writes: readonly unknown[]) => writes.map(() => null),
    writeThenRead: async (_: unknown, names: readonly string[]) => ({
      replies: [],
      values: names.map((name) => (name.startsWith('fence') ? 'r' : null)),
    }),
    scan: async () => ({ cursor: '0', keys: [] }),
    health: async () => ({ keyCount: 0, heartbeat: null, epoch: null }),
  };
  const cache = createCache({
    connection,
    onHit: reject('onHit'),
    onMiss: reject('onMiss'),
    onError: reject('onError'),
    log: reject('log'),
  });
  expect(await cache.getOrSet('hit:1', () => 2)).toBe(1);
  expect(await cache.getOrSet('miss:1', () => 2, 60, { onOutcome: reject('onOutcome') })).toBe(2);
  expect(await cache.get('away:1')).toBeNull();
  // Node reports unhandled rejections when the microtasks are done.
  await new Promise((resolve) => setImmediate(resolve));
  expect(new Set(called)).toEqual(new Set(['onHit', 'onMiss', 'onOutcome', 'onError', 'log']));
  expect(unhandled).toEqual([]);
});
