/** get, load, set and begin, load, set: what set stores, and what it says. */
import assert from 'node:assert/strict';
import { RedisFailure } from '../../../supabase/functions/_shared/cache/redis/failure.ts';
import { invalidate } from './invalidating.ts';
import { type Check, eventually, gate, QUOTA } from './support.ts';

const COST = 'cost:openai:gpt-5';

export const setting: Check[] = [
  {
    name: 'get, load, set: a value that was invalidated after the get is not readable',
    run: async (support) => {
      const cache = await support.withWorker();
      assert.equal(await cache.get(QUOTA), null);
      await invalidate(support, 'quota:org-1:*');
      assert.equal(await cache.set(QUOTA, 'old'), true);
      assert.equal(await cache.get(QUOTA), null);
      // That get saw other fences, which must not replace the first one's: the value may be older.
      assert.equal(await cache.set(QUOTA, 'old'), false);
      assert.equal(await cache.get(QUOTA), null);
      assert.match(support.logged.join(), /^cache: a set of type quota stored nothing.*begin\(key\)/);
      support.lasting += 30_001;
      assert.equal(await cache.get(QUOTA), null);
      assert.equal(await cache.set(QUOTA, 'new'), true);
      assert.equal(await cache.get(QUOTA), 'new');
    },
  },
  ...[null, undefined, 'row'].map(
    (cached): Check => ({
      name: `get, load, set is safe after a get that found ${cached}`,
      run: async (support) => {
        const [cache, other] = [await support.withWorker(), support.isolate()];
        for (const key of [QUOTA, 'member:org-1:u1']) {
          await other.getOrSet<unknown>(key, () => cached);
          assert.equal(await cache.get(key), cached ?? null);
          // It loads the old row. Meanwhile the row changes, and the worker deletes the fence.
          await invalidate(support, key);
          await cache.set(key, cached ?? null);
          assert.deepEqual(await other.lookup(key), { hit: false });
          assert.equal(await other.getOrSet<unknown>(key, () => 'new'), 'new');
        }
      },
    }),
  ),
  {
    name: 'set is never true for what cannot be read, and leaves a good entry alone',
    run: async (support) => {
      const cache = await support.withWorker();
      assert.equal(await cache.get(QUOTA), null);
      await cache.del(QUOTA);
      assert.equal(await cache.set(QUOTA, 'old'), false);
      assert.equal(await cache.getOrSet(QUOTA, () => 'good'), 'good');
      assert.equal(await cache.set(QUOTA, 'old'), false);
      assert.equal(await cache.get(QUOTA), 'good');
      // Another key of the entity, and everything.
      for (const invalidated of ['quota:org-1:*', '*', 'quota:*:openai:*']) {
        support.lasting += 30_001;
        await cache.getOrSet(QUOTA, () => 'good');
        assert.equal(await cache.get(QUOTA), 'good', invalidated);
        await cache.delPattern(invalidated);
        assert.equal(await cache.set(QUOTA, 'old'), false, invalidated);
      }
      const token = await cache.begin(QUOTA);
      assert.equal(await cache.set(QUOTA, 'new', 60, token), true);
      assert.equal(await cache.get(QUOTA), 'new');
    },
  },
  {
    name: 'a set that stores nothing leaves no older value readable',
    run: async (support) => {
      const cache = await support.withWorker({ maxValueBytes: 1_000 });
      const connection = support.connection();
      const refusing = support.isolate({
        connection: {
          ...connection,
          write: async (writes) => {
            const rest = writes.filter(({ op }) => op !== 'put');
            const replies = (await connection.write(rest)).values();
            return writes.map(({ op }) =>
              op === 'put'
                ? new RedisFailure('memory-full', { isReply: true })
                : (replies.next().value ?? null),
            );
          },
        },
      });
      // Redis was away for its get, and is back.
      let isAway = true;
      const late = support.isolate({
        connection: {
          ...connection,
          getMany: async (names) =>
            isAway ? Promise.reject(new RedisFailure('unreachable')) : connection.getMany(names),
        },
      });
      await late.get(QUOTA);
      isAway = false;
      support.lasting += 1_001;
      const asked = late.stats().commands;
      await eventually(async () => {
        await late.get('own:other');
        return late.stats().commands > asked;
      }, 'Redis is asked again');
      const unsupported = { code: 'UNSUPPORTED_VALUE' };
      const stores: (() => Promise<unknown>)[] = [
        () => cache.set(QUOTA, 'x'.repeat(2_000)),
        () => cache.set(QUOTA, 1, 0),
        () => refusing.set(QUOTA, 1),
        () => late.set(QUOTA, 1),
        () => late.get(QUOTA).then(() => late.set(QUOTA, 1)),
        () => assert.rejects(cache.set(QUOTA, new Date(0)), unsupported).then(() => false),
        () => assert.rejects(cache.set(QUOTA, { data: null, error: {} }), unsupported).then(() => false),
      ];
      for (const store of stores) {
        await cache.getOrSet(QUOTA, () => 'older', { lease: 0 });
        assert.equal(await store(), false);
        assert.deepEqual(await support.isolate().lookup(QUOTA), { hit: false });
      }
      assert.doesNotMatch(support.logged.join(), /invalidated/);
    },
  },
  {
    name: 'what stores nothing ends the lease that the entry was loaded under: the next reader waits for nobody',
    run: async (support) => {
      const settings = { maxValueBytes: 1_000, lease: 60_000 };
      const cache = await support.withWorker(settings);
      const leased = async () => support.redis('EXISTS', await support.lease(QUOTA));
      const stores: (() => Promise<unknown>)[] = [
        () => cache.set(QUOTA, 'x'.repeat(2_000)),
        () => cache.set(QUOTA, 1, 0),
        () => assert.rejects(cache.set(QUOTA, new Date(0)), { code: 'UNSUPPORTED_VALUE' }),
        () => cache.getOrSet(QUOTA, () => 'x'.repeat(2_000), { fresh: true }),
        () => cache.getOrSet<unknown>(QUOTA, () => new Date(0), { fresh: true }),
        () => cache.getOrSet(QUOTA, () => null, { fresh: true, negativeTtl: 0 }),
      ];
      for (const [index, store] of stores.entries()) {
        assert.equal(await support.isolate(settings).getOrSet(QUOTA, leased), 1, String(index));
        await store();
        assert.equal(await leased(), 0, String(index));
      }
    },
  },
  {
    name: 'a set is false, and says why, where so many keys were read that it is not known whether this one was',
    run: async (support) => {
      const cache = await support.withWorker();
      await cache.set(COST, 1);
      await cache.getMany(Array.from({ length: 10_001 }, (_, model) => `quota:org-1:openai:${model}`));
      assert.equal(await cache.set(COST, 2), false);
      assert.match(support.logged.join(), /^cache: a set of type cost stored nothing: so many.*begin\(key\)/);
      assert.equal(await cache.set(COST, 2, 60, await cache.begin(COST)), true);
    },
  },
  {
    name: 'begin, load, set: the token decides, whatever was read since',
    run: async (support) => {
      const cache = await support.withWorker();
      const early = await cache.begin(QUOTA);
      await invalidate(support, QUOTA);
      const late = await cache.begin(QUOTA);
      await cache.set(QUOTA, 'new', 60, late);
      assert.equal(await cache.get(QUOTA), 'new');
      assert.equal(await cache.set(QUOTA, 'old', 60, early), false);
      assert.equal(await cache.get(QUOTA), 'new');
      await assert.rejects(cache.set(COST, 1, 60, late), { code: 'TOKEN_MISMATCH' });
    },
  },
  {
    name: 'a set with a token of before an invalidation that this isolate knows of is false, and leaves a good entry alone',
    run: async (support) => {
      const cache = await support.withWorker();
      const other = support.isolate();
      const invalidations: (() => Promise<unknown>)[] = [
        () => cache.del(QUOTA),
        () => cache.delPattern('*'),
        async () => {
          await invalidate(support, QUOTA);
          await cache.getOrSet(QUOTA, () => 'good');
        },
        // Too long ago to be remembered: Redis is asked, whoever invalidated.
        async () => {
          support.lasting += 30_001;
          await other.del(QUOTA);
        },
      ];
      for (const [index, invalidated] of invalidations.entries()) {
        const token = await cache.begin(QUOTA);
        await invalidated();
        assert.equal(await cache.getOrSet(QUOTA, () => 'good'), 'good');
        assert.equal(await cache.set(QUOTA, 'old', 60, token), false, String(index));
        assert.equal(await other.get(QUOTA), 'good', String(index));
      }
      assert.equal(support.logged.length, 1);
      assert.match(support.logged[0] ?? '', /^cache: a set of type quota stored nothing.*begin\(key\)/);
      const token = await cache.begin(QUOTA);
      support.lasting += 30_001;
      const spent = await support.counted(() => cache.set(QUOTA, 'new', 60, token));
      assert.deepEqual([spent.result, spent.commands], [true, 2]);
      assert.equal(await cache.get(QUOTA), 'new');
    },
  },
  ...[true, false].map(
    (hasToken): Check => ({
      name: `a set is false for what was loaded too long ago without a worker, or before one came back (a token: ${hasToken})`,
      run: async (support) => {
        const cache = support.isolate({ degradedMaxAge: 1 });
        const start = async () => (hasToken ? cache.begin(QUOTA) : void (await cache.get(QUOTA)));
        for (const [ahead, isKept] of [
          [500, true],
          [1_300, false],
        ] as const) {
          support.lasting += 30_001;
          const token = await start();
          support.ahead += ahead;
          assert.equal(await cache.set(QUOTA, ahead, 60, token ?? undefined), isKept);
          assert.equal(await cache.get(QUOTA), isKept ? ahead : null);
        }
        support.lasting += 30_001;
        await cache.set(QUOTA, 'older');
        const token = await start();
        await support.redis(
          'SET',
          support.key('fencepost:heartbeat'),
          (await support.redis('GET', support.key('fencepost:epoch'))) as string,
        );
        assert.equal(await cache.set(QUOTA, 'old', 60, token ?? undefined), false);
        assert.equal(await cache.get(QUOTA), null);
      },
    }),
  ),
  {
    name: 'a reply that arrives late is no news: set stores what was loaded after a get',
    run: async (support) => {
      const connection = support.connection();
      const [held, answered] = [gate(), gate()];
      let reads = 0;
      await support.heartbeat('epoch-1');
      const cache = support.isolate({
        connection: {
          ...connection,
          getMany: async (names) => {
            const isFirst = ++reads === 1;
            const values = await connection.getMany(names);
            if (!isFirst) return values;
            answered.open();
            await held.opened;
            return values;
          },
        },
      });
      const early = cache.get(QUOTA);
      await answered.opened;
      const token = await cache.begin(QUOTA);
      await cache.get(QUOTA);
      held.open();
      await early;
      assert.equal(await cache.set(QUOTA, 1), true);
      assert.equal(await cache.set(QUOTA, 2, 60, token), true);
      assert.equal(await cache.get(QUOTA), 2);
      assert.deepEqual(support.logged, []);
    },
  },
  {
    name: 'a set with no get before it is true as of now',
    run: async (support) => {
      const cache = await support.withWorker();
      assert.equal(await cache.set('counter:x', { seen: 1 }, 60), true);
      assert.deepEqual(await cache.get('counter:x'), { seen: 1 });
      await invalidate(support, 'counter:x');
      assert.equal(await cache.get('counter:x'), null);
    },
  },
];
