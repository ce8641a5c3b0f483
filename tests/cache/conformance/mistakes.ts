/** Mistakes of the program: keys, numbers and loaders' answers that cannot work are refused at once, the same way everywhere. */
import assert from 'node:assert/strict';
import {
  type Cache,
  type CacheOptions,
  encodeSegment,
  type GetOrSetOptions,
} from '../../../supabase/functions/_shared/cache.ts';
import { type Check, QUOTA } from './support.ts';

const OTHER = 'quota:org-1:openai:gpt-4';

const badKeys = [
  '',
  'fence:quota',
  'fencepost:heartbeat',
  'quota:\ud800:x',
  'quota:a\0:x',
  'k'.repeat(4_097),
];

/** Patterns, and no keys: a key `flags:*` would be read as its group, and no sweep would reach it. */
const globs = ['flags:*', 'flags:?', 'flags:[a]', 'flags:]', 'flags:\\'];

const entryPoints: Readonly<Record<string, (cache: Cache, key: string) => Promise<unknown>>> = {
  get: (cache, key) => cache.get(key),
  lookup: (cache, key) => cache.lookup(key),
  getMany: (cache, key) => cache.getMany([QUOTA, key]),
  begin: (cache, key) => cache.begin(key),
  set: (cache, key) => cache.set(key, 1),
  getOrSet: (cache, key) => cache.getOrSet(key, () => assert.fail('loaded')),
  getOrSetMany: (cache, key) => cache.getOrSetMany([QUOTA, key], () => assert.fail('loaded')),
  del: (cache, key) => cache.del(QUOTA, key),
  delPattern: (cache, key) => cache.delPattern(key),
};

export const mistakes: Check[] = [
  {
    name: 'a key that no row could have is INVALID_KEY everywhere, loads nothing and deletes nothing',
    run: async (support) => {
      const cache = await support.withWorker();
      await cache.getOrSet(QUOTA, () => 1);
      const before = await support.counted(async () => {
        for (const [name, use] of Object.entries(entryPoints)) {
          for (const key of name === 'delPattern' ? badKeys : [...badKeys, ...globs]) {
            await assert.rejects(use(cache, key), { name: 'CacheError', code: 'INVALID_KEY' }, name);
          }
          // A call that TypeScript would refuse.
          await assert.rejects(use(cache, undefined as unknown as string), { code: 'INVALID_KEY' }, name);
        }
      });
      assert.equal(before.commands, 0);
      for (const glob of globs) assert.notEqual(await cache.delPattern(glob), null);
      assert.equal(await cache.getOrSet(`flags:${encodeSegment('*?[]\\')}`, () => 1), 1);
      const names = ['fence:quota', 'fencepost:heartbeat'].map((name) => support.key(name));
      assert.equal(await support.redis('EXISTS', ...names), 2);
      assert.equal(await cache.get(QUOTA), 1);
      for (const key of ['__proto__', 'constructor:toString', 'hasOwnProperty:__proto__:x', 'é😀:x']) {
        assert.equal(await cache.getOrSet(key, () => key), key);
        assert.equal(await cache.get(key), key);
        const batch = await cache.getOrSetMany([`${key}:1`], async () => ({}));
        assert.deepEqual(batch, new Map([[`${key}:1`, undefined]]));
      }
    },
  },
  {
    name: 'times that cannot work are INVALID_CONFIGURATION before anything is asked or loaded',
    run: async (support) => {
      const cache = await support.withWorker();
      const load = () => assert.fail('loaded');
      const wrong = [-1, Number.NaN, Number.POSITIVE_INFINITY, 1e15, '60' as unknown as number];
      const names = [
        'negativeTtl',
        'degradedMaxAge',
        'staleWhileRevalidate',
        'staleIfError',
        'lease',
        'timeout',
      ];
      const spent = await support.counted(async () => {
        for (const value of wrong) {
          await assert.rejects(cache.getOrSet(QUOTA, load, value), { code: 'INVALID_CONFIGURATION' });
          await assert.rejects(cache.set(QUOTA, 1, value), { code: 'INVALID_CONFIGURATION' });
          for (const name of names) {
            const options: GetOrSetOptions = { [name]: value };
            await assert.rejects(
              cache.getOrSet('member:org-1:u1', load, options),
              { code: 'INVALID_CONFIGURATION', message: new RegExp(`${name} must be a number of .*seconds`) },
              `${name} ${value}`,
            );
          }
          for (const name of ['timeout', 'lease', 'degradedMaxAge', 'maxValueBytes']) {
            const options: CacheOptions = { [name]: value };
            // A quadrillion bytes is a valid limit that nothing reaches.
            if (name === 'maxValueBytes' && value === 1e15) continue;
            assert.throws(() => support.isolate(options), { code: 'INVALID_CONFIGURATION' });
          }
        }
      });
      assert.equal(spent.commands, 0);
      assert.throws(() => support.isolate({ timeout: 0 }), { code: 'INVALID_CONFIGURATION' });
    },
  },
  {
    name: 'fractions of seconds and milliseconds count, rounded up to what Redis takes',
    run: async (support) => {
      const cache = await support.withWorker({ lease: 999.5, timeout: 5_000.5 });
      const options = { staleIfError: 0.0001, staleWhileRevalidate: 1.00005, negativeTtl: 0.1, lease: 20.7 };
      await cache.getOrSet(QUOTA, () => 1, 100.0005, options);
      assert.equal(await cache.get(QUOTA), 1);
      assert.equal(await cache.set(OTHER, 2, 33.3333), true);
      assert.equal(await cache.get(OTHER), 2);
      assert.deepEqual(support.logged, []);
      // A third of a millisecond is short, but only 0 means not to store.
      assert.equal(await cache.set(OTHER, 3, 0.0003), true);
    },
  },
  {
    name: 'a batch loader that gives no map is INVALID_LOAD for all callers of the load, and leaves nothing behind',
    run: async (support) => {
      const cache = await support.withWorker({ lease: 30_000 });
      const shapes = [
        new Set([1]),
        new (class Result {})(),
        { rows: [], rowCount: 0 },
        { data: null, error: null },
      ];
      for (const answer of [null, undefined, 5, 'x', [], [1, 2], () => {}, ...shapes]) {
        const load = async () => answer as unknown as Record<string, number>;
        const both = [cache.getOrSetMany([QUOTA, OTHER], load), cache.getOrSetMany([OTHER], load)];
        for (const reader of both) {
          await assert.rejects(reader, {
            name: 'CacheError',
            code: 'INVALID_LOAD',
            message: /Give a Map from key to value/,
          });
        }
      }
      // No lease, no load in progress and no cached absence are left.
      const good = await cache.getOrSetMany([QUOTA, OTHER], async () => ({ [QUOTA]: 1, [OTHER]: 2 }));
      assert.deepEqual([...good.values()], [1, 2]);
    },
  },
  {
    name: 'a loader may be synchronous, thenable, and give any map; what is no function is INVALID_LOAD',
    run: async (support) => {
      const cache = await support.withWorker();
      const rows = new Map([[QUOTA, 1]]);
      const readonlyMap = {
        get: (key: string) => rows.get(key),
        has: (key: string) => rows.has(key),
      } as unknown as ReadonlyMap<string, number>;
      for (const answer of [readonlyMap, rows, { [QUOTA]: 1, 'quota:of:somebody:else': 2 }]) {
        await cache.del(QUOTA);
        assert.equal((await cache.getOrSetMany([QUOTA], () => answer)).get(QUOTA), 1);
        assert.equal(await cache.get(QUOTA), 1);
      }
      // biome-ignore lint/suspicious/noThenProperty: so are the builders of supabase-js
      const thenable: PromiseLike<string> = { then: (...then) => Promise.resolve('row').then(...then) };
      const row: string = await cache.getOrSet(OTHER, () => thenable);
      assert.equal(row, 'row');
      const none = undefined as unknown as () => Map<string, number>;
      await assert.rejects(cache.getOrSet(QUOTA, none), { code: 'INVALID_LOAD' });
      await assert.rejects(cache.getOrSetMany([QUOTA], none), { code: 'INVALID_LOAD' });
    },
  },
  {
    name: 'thousands of keys, each of them twice: answered, stored and read again in requests of bounded size',
    run: async (support) => {
      const cache = await support.withWorker();
      const wanted = Array.from({ length: 3_000 }, (_, index) => `bulk:${index % 1_500}:x`);
      const load = async (missing: readonly string[]) => new Map(missing.map((key) => [key, 1]));
      const cold = await support.counted(() => cache.getOrSetMany(wanted, load));
      assert.equal(cold.result.size, 1_500);
      assert.ok(cold.requests >= 4 + 4 + 2, String(cold.requests));
      const warm = await cache.getMany(wanted);
      assert.equal(warm.size, 1_500);
      // Few keys may hold as much.
      const large = Array.from({ length: 5 }, (_, index) => `large:${index}`);
      const text = 'é'.repeat(500_000);
      const stored = await support.counted(() =>
        cache.getOrSetMany(large, async (missing) => new Map(missing.map((key) => [key, text]))),
      );
      assert.equal(stored.requests, 1 + 1 + 2);
      assert.equal((await cache.getMany(large)).size, 5);
      assert.deepEqual(support.logged, []);
      assert.deepEqual(await cache.getMany([]), new Map());
    },
  },
];
