/** How old an answer may be: stale windows, a dead worker, epochs. */
import assert from 'node:assert/strict';
import { type Check, eventually, gate, QUOTA } from './support.ts';

const MEMBER = 'member:org-1:u1';

export const staleness: Check[] = [
  {
    name: 'staleWhileRevalidate answers at once and loads behind it, once',
    run: async (support) => {
      const cache = await support.withWorker();
      const options = { staleWhileRevalidate: 60 };
      const outcomes: string[] = [];
      await cache.getOrSet(QUOTA, () => 'old', 10, options);
      support.ahead += 11_000;
      let loads = 0;
      const row = gate<string>();
      const read = () =>
        cache.getOrSet(
          QUOTA,
          () => {
            loads++;
            return row.opened;
          },
          10,
          { ...options, onOutcome: (_, outcome) => outcomes.push(outcome) },
        );
      assert.deepEqual([await read(), await read()], ['old', 'old']);
      assert.deepEqual(outcomes, ['stale', 'stale']);
      // Without the option the same entry is past its time.
      assert.equal(await cache.get(QUOTA), null);
      row.open('new');
      await eventually(async () => (await cache.get(QUOTA)) === 'new', 'the new value is stored');
      assert.equal(loads, 1);
    },
  },
  {
    name: 'a stale answer is past its time, never invalidated',
    run: async (support) => {
      const cache = await support.withWorker();
      const options = { staleWhileRevalidate: 60, staleIfError: 60 };
      await cache.getOrSet(QUOTA, () => 'old', 10, options);
      support.ahead += 11_000;
      await cache.delPattern('quota:org-1:*');
      assert.equal(await cache.getOrSet(QUOTA, () => 'new', 10, options), 'new');
    },
  },
  {
    name: 'staleIfError answers with the old value when the loader fails or is late, within its window only',
    run: async (support) => {
      const lease = 50;
      const cache = await support.withWorker({ lease });
      const options = { staleIfError: 60 };
      const broken = () => Promise.reject(new Error('database is down'));
      await cache.getOrSet(QUOTA, () => 'old', 10, options);
      support.ahead += 11_000;
      assert.equal(await cache.getOrSet(QUOTA, broken, 10, options), 'old');
      const never = () => new Promise<string>(() => {});
      assert.equal(await cache.getOrSet(QUOTA, never, 10, { ...options, timeout: 20 }), 'old');
      assert.equal(await support.isolate({ lease }).getOrSet(QUOTA, () => 'new', 10, options), 'new');
      support.ahead += 80_000;
      await assert.rejects(
        support.isolate({ lease }).getOrSet(QUOTA, broken, 10, options),
        /database is down/,
      );
    },
  },
  {
    name: 'staleIfError does not answer with what this call itself has seen invalidated',
    run: async (support) => {
      const lease = 60_000;
      const cache = await support.withWorker({ lease });
      const options = { staleIfError: 600 };
      const broken = () => Promise.reject(new Error('database is down'));
      const reset = async () => {
        await cache.getOrSet(QUOTA, () => 'old', 10, options);
        support.ahead += 11_000;
      };
      await reset();
      // Its read shows the entry. While the loader tries, the fence goes.
      const invalidated = async () => {
        await cache.del(QUOTA);
        return broken();
      };
      const between = support.isolate({ lease });
      await assert.rejects(between.getOrSet(QUOTA, invalidated, 10, options), /database is down/);
      // The fence is gone when the call waits for another isolate's load.
      await reset();
      const held = await support.lease(QUOTA);
      await support.redis('SET', held, 'another isolate');
      const reader = support.isolate({ lease });
      const failing = assert.rejects(reader.getOrSet(QUOTA, broken, 10, options), /database is down/);
      await eventually(async () => reader.stats().commands > 4, 'it waits for the lease');
      await cache.delPattern('quota:org-1:*');
      await support.redis('DEL', held);
      await failing;
    },
  },
  {
    name: 'staleIfError does not answer with what has become too old while the loader tried',
    run: async (support) => {
      const cache = await support.withWorker();
      const options = { staleIfError: 60 };
      await cache.getOrSet(QUOTA, () => 'old', 10, options);
      support.ahead += 11_000;
      const slow = () => {
        support.ahead += 60_000;
        throw new Error('database is down');
      };
      await assert.rejects(cache.getOrSet(QUOTA, slow, 10, options), /database is down/);
    },
  },
  {
    name: 'without a heartbeat only young entries answer, and none of a type that grants access',
    run: async (support) => {
      const cache = await support.withWorker();
      await cache.getOrSetMany(
        [QUOTA, MEMBER],
        async (missing) => new Map(missing.map((key) => [key, 'loaded'])),
      );
      assert.equal((await cache.getMany([QUOTA, MEMBER])).size, 2);
      await support.redis('DEL', support.key('fencepost:heartbeat'));
      assert.deepEqual(await cache.getMany([QUOTA, MEMBER]), new Map([[QUOTA, 'loaded']]));
      support.ahead += 29_000;
      assert.equal(await cache.get(QUOTA), 'loaded');
      assert.equal(await cache.getOrSet(QUOTA, () => 'new', 60, { degradedMaxAge: 20 }), 'new');
      support.ahead += 31_000;
      assert.equal(await cache.get(QUOTA), null);
      // An entry from a clock that is ahead has no age to rely on.
      support.ahead -= 60_000;
      assert.equal(await cache.get(QUOTA), null);
    },
  },
  {
    name: 'without a heartbeat nobody joins a load that began longer ago than an entry may be old',
    run: async (support) => {
      const cache = support.isolate({ lease: 0 });
      const row = gate<string>();
      const started = gate();
      const options = { degradedMaxAge: 5 };
      const load = () => {
        started.open();
        return row.opened;
      };
      const first = cache.getOrSet(QUOTA, load, 300, options);
      await started.opened;
      support.ahead += 4_000;
      let joined = false;
      const onOutcome = () => {
        joined = true;
      };
      const young = cache.getOrSet(QUOTA, () => assert.fail('loaded'), 300, { ...options, onOutcome });
      await eventually(async () => joined, 'a caller joins the load while it is young');
      support.ahead += 2_000;
      assert.equal(await cache.getOrSet(QUOTA, () => 'new', 300, options), 'new');
      const many = await cache.getOrSetMany([QUOTA], async () => assert.fail('loaded'), 300, options);
      assert.equal(many.get(QUOTA), 'new');
      row.open('old');
      assert.deepEqual(await Promise.all([first, young]), ['old', 'old']);
      // It is too old to be stored, so it does not replace the younger answer.
      assert.equal(await cache.getOrSet(QUOTA, () => 'newest', 300, options), 'new');
    },
  },
  {
    name: 'what was stored without a heartbeat is no hit once there is one',
    run: async (support) => {
      const cache = support.isolate();
      await cache.getOrSet(QUOTA, () => 'unwatched');
      assert.equal(await cache.get(QUOTA), 'unwatched');
      const member = await support.counted(() => cache.getOrSet(MEMBER, () => 'admin'));
      assert.deepEqual([member.result, member.commands], ['admin', 1]);
      assert.equal(await support.redis('EXISTS', support.key(MEMBER)), 0);
      await support.heartbeat('epoch-1');
      assert.equal(await cache.get(QUOTA), null);
    },
  },
  {
    name: 'an epoch that has ended stays ended when the heartbeat is lost, whoever ended it',
    run: async (support) => {
      const cache = await support.withWorker({ degradedMaxAge: 600 });
      await cache.getOrSet(QUOTA, () => 'old');
      await support.heartbeat('epoch-2');
      await support.redis('DEL', support.key('fencepost:heartbeat'));
      assert.equal(await cache.getOrSet(QUOTA, () => 'new'), 'new');
      await cache.delPattern('*');
      assert.equal(await cache.get(QUOTA), null);
    },
  },
  {
    name: "delPattern('*') makes no worker look alive",
    run: async (support) => {
      const cache = support.isolate();
      assert.equal(await cache.delPattern('*'), undefined);
      assert.equal((await cache.ping()).workerAlive, false);
      await cache.getOrSet(QUOTA, () => 'unwatched');
      assert.equal(await cache.get(QUOTA), 'unwatched');
      support.ahead += 31_000;
      assert.equal(await cache.get(QUOTA), null);
      await support.heartbeat('epoch-1');
      assert.equal(await cache.delPattern('*'), undefined);
      assert.equal((await cache.ping()).workerAlive, false);
    },
  },
  {
    name: 'losing the epoch costs misses, and then the age bounds what no worker vouches for',
    run: async (support) => {
      const cache = await support.withWorker();
      await cache.getOrSet(QUOTA, () => 'old');
      await support.redis('DEL', support.key('fencepost:epoch'));
      assert.equal(await cache.get(QUOTA), null);
      assert.equal(await cache.getOrSet(QUOTA, () => 'new'), 'new');
      assert.equal(await support.redis('TTL', support.key('fencepost:epoch')), -1);
      assert.equal(await cache.get(QUOTA), 'new');
      support.ahead += 31_000;
      assert.equal(await cache.get(QUOTA), null);
    },
  },
  {
    name: 'a new epoch invalidates everything, and what was loaded under the old one is never readable',
    run: async (support) => {
      const cache = await support.withWorker();
      await cache.getOrSet('cost:a:b', () => 'old');
      const row = gate<string>();
      const started = gate();
      const reader = cache.getOrSet(QUOTA, () => {
        started.open();
        return row.opened;
      });
      await started.opened;
      await support.heartbeat('epoch-2');
      row.open('old');
      await reader;
      assert.equal((await cache.getMany([QUOTA, 'cost:a:b'])).size, 0);
      // The old epoch's name does not come back by itself, but if it did, its entries would still be true to their fences.
      assert.equal(await cache.getOrSet(QUOTA, () => 'new'), 'new');
      assert.equal(await cache.get(QUOTA), 'new');
    },
  },
];
