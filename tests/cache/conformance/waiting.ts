/** Waiting for another isolate's load: only as long as it can help, and never for a load that is known to store nothing. */
import assert from 'node:assert/strict';
import type { Runtime } from '../../../supabase/functions/_shared/cache/redis/runtime.ts';
import { systemRuntime } from '../../../supabase/functions/_shared/cache/redis/runtime.ts';
import type { Cache } from '../../../supabase/functions/_shared/cache.ts';
import { type Check, eventually, gate, QUOTA, type Support } from './support.ts';

/** The longest pause between two reads while another isolate loads. */
const LONGEST_PAUSE_MS = 250;

/** A clock on which pauses pass at once, and on which no timeout ever comes. */
function hurried(support: Support): Runtime {
  return {
    ...systemRuntime,
    now: () => Date.now() + support.ahead,
    monotonic: () => support.lasting,
    sleep: async (milliseconds, signal) => {
      if (milliseconds > LONGEST_PAUSE_MS) {
        return new Promise((resolve) => signal?.addEventListener('abort', () => resolve()));
      }
      support.lasting += milliseconds;
    },
  };
}

/** What is not stored, and the TTL and options that it is asked for with. */
const uncacheable: [what: string, value: () => unknown, ttl: number, options: { negativeTtl?: number }][] = [
  ['JSON would change it', () => ({ at: new Date(0) }), 300, {}],
  ['it is too large', () => 'x'.repeat(2_000), 300, {}],
  ['absence, with a negativeTtl of 0', () => null, 300, { negativeTtl: 0 }],
  ['a TTL of 0', () => 1, 0, {}],
];

export const waiting: Check[] = [
  {
    name: 'a call with a timeout waits half of it for a dead leader, then loads; it does not join a longer wait',
    run: async (support) => {
      const lease = 60_000;
      await support.heartbeat('epoch-1');
      const cache = support.isolate({ lease });
      await cache.begin(QUOTA);
      await support.redis('SET', await support.lease(QUOTA), 'a dead leader', 'PX', lease);
      const unlimited = cache.getOrSet(QUOTA, () => 'unlimited');
      await eventually(async () => cache.stats().commands > 7, 'the first call waits for the leader');
      const limited = support.isolate({ lease, runtime: hurried(support) });
      let waited = 0;
      const load = () => {
        waited = support.lasting;
        return 'limited';
      };
      assert.equal(await limited.getOrSet(QUOTA, load, 60, { timeout: 1_000 }), 'limited');
      assert.ok(waited >= 499 && waited <= 501, `it waited ${waited} ms`);
      assert.equal(await unlimited, 'limited');
      // The same within one isolate.
      await support.redis('DEL', support.key(QUOTA));
      await support.redis('SET', await support.lease(QUOTA), 'a dead leader', 'PX', lease);
      const asked = cache.stats().commands;
      const again = cache.getOrSet(QUOTA, () => 'unlimited');
      await eventually(async () => cache.stats().commands > asked + 4, 'the second call waits too');
      assert.equal(await cache.getOrSet(QUOTA, () => 'own', 60, { timeout: 2_000 }), 'own');
      assert.equal(await again, 'own');
    },
  },
  ...uncacheable.map(
    ([what, value, ttl, options]): Check => ({
      name: `loads of which nothing is stored do not wait for each other: ${what}`,
      run: async (support) => {
        const settings = { lease: 60_000, maxValueBytes: 1_000 };
        const isolates = [await support.withWorker(settings), support.isolate(settings)] as const;
        // An isolate learns it from its own first load, unless the options say it.
        for (const cache of isolates) {
          if (ttl > 0) await cache.getOrSet<unknown>(QUOTA, value, ttl, options);
        }
        const started = [gate(), gate()] as const;
        const row = gate<unknown>();
        const [one, other] = isolates.map((cache, index) => {
          const load = () => {
            started[index]?.open();
            return row.opened;
          };
          return cache.getOrSet(QUOTA, load, ttl, options);
        });
        await Promise.all(started.map(({ opened }) => opened));
        row.open(value());
        assert.deepEqual(await Promise.all([one, other]), [value(), value()]);
      },
    }),
  ),
  {
    name: 'once a value is stored again, leases are taken again',
    run: async (support) => {
      const cache = await support.withWorker();
      const leased = async () => Number(await support.redis('EXISTS', await support.lease(QUOTA)));
      assert.equal(await cache.getOrSet<unknown>(QUOTA, () => 5n), 5n);
      assert.equal(await cache.getOrSet(QUOTA, leased), 0);
      await cache.del(QUOTA);
      assert.equal(await cache.getOrSet(QUOTA, leased), 1);
    },
  },
  ...[true, false].map(
    (valid): Check => ({
      name: `a caller that has to load again has what is left of its timeout, and its stale answer (valid: ${valid})`,
      run: async (support) => {
        const timeout = 20_000;
        const waits = gate();
        const runtime: Runtime = {
          ...systemRuntime,
          now: () => Date.now() + support.ahead,
          monotonic: () => performance.now() + support.lasting,
          sleep: (milliseconds, signal) => {
            if (milliseconds === timeout) waits.open();
            return systemRuntime.sleep(milliseconds, signal);
          },
        };
        const cache = await support.withWorker({ runtime });
        const options = valid ? { staleIfError: 600 } : {};
        await cache.getOrSet<unknown>(QUOTA, () => 'old', 10, options);
        support.ahead += 11_000;
        if (!valid) await cache.del(QUOTA);
        const row = gate<unknown>();
        const started = gate();
        const load = () => {
          started.open();
          return row.opened;
        };
        const first = cache.getOrSet(QUOTA, load, 10, options);
        await started.opened;
        const never = () => new Promise<unknown>(() => {});
        const second = cache.getOrSet(QUOTA, never, 10, { ...options, timeout });
        await waits.opened;
        support.lasting += timeout - 20;
        // It cannot be copied, so the second caller has to load for itself.
        row.open(5n);
        if (valid) assert.equal(await second, 'old');
        else await assert.rejects(second, { code: 'LOAD_TIMEOUT' });
        assert.equal(await first, 5n);
      },
    }),
  ),
  {
    name: 'nobody waits for a load whose fences are gone, in any isolate: the next load has a lease of its own',
    run: async (support) => {
      const settings = { lease: 60_000 };
      const isolates = [
        await support.withWorker(settings),
        support.isolate(settings),
        support.isolate(settings),
        support.isolate(settings),
      ];
      const [first, second, third, fourth] = isolates as [Cache, Cache, Cache, Cache];
      const [old, row] = [gate<string>(), gate<string>()];
      const [dead, started] = [gate(), gate()];
      const before = first.getOrSet(QUOTA, () => {
        dead.open();
        return old.opened;
      });
      await dead.opened;
      await third.del(QUOTA);
      const after = second.getOrSet(QUOTA, () => {
        started.open();
        return row.opened;
      });
      await started.opened;
      const asked = third.stats().commands;
      const waiter = third.getOrSet(QUOTA, () => assert.fail('loaded'));
      await eventually(async () => third.stats().commands > asked + 4, 'the third isolate waits');
      // What the first isolate stores is dead on arrival. It ends nobody's wait, and gives nobody a lease beside the one that is held.
      old.open('old');
      assert.equal(await before, 'old');
      const looked = third.stats().commands;
      const late = fourth.getOrSet(QUOTA, () => assert.fail('loaded'));
      await eventually(async () => third.stats().commands > looked + 2, 'the third isolate goes on waiting');
      await eventually(async () => fourth.stats().commands > 3, 'the fourth one waits');
      row.open('new');
      assert.deepEqual(await Promise.all([after, waiter, late]), ['new', 'new', 'new']);
    },
  },
  ...['invalidated', 'gone'].map((leader) => ({
    name: `a waiter whose leader was ${leader} late waits as long for the one after it`,
    run: async (support: Support) => {
      const lease = 60_000;
      let waited = 0;
      let [asleep, wake] = [gate(), gate()];
      const runtime: Runtime = {
        ...systemRuntime,
        // Pauses of 15, 30, 60, 120 and 200 ms: the last one begins at 1625 ms, and the wait that began anew at 825 ends at 1825.
        random: () => 0.5,
        monotonic: () => waited,
        sleep: async (milliseconds, signal) => {
          if (milliseconds > LONGEST_PAUSE_MS) return hurried(support).sleep(milliseconds, signal);
          asleep.open();
          await wake.opened;
          wake = gate();
          waited += milliseconds;
        },
      };
      const waitUntil = async (milliseconds: number) => {
        for (;;) {
          await asleep.opened;
          if (waited >= milliseconds) return;
          asleep = gate();
          wake.open();
        }
      };
      const leaders = [await support.withWorker({ lease }), support.isolate({ lease })];
      const rows = leaders.map(() => gate<string>());
      const lead = async (which: number) => {
        const started = gate();
        const read = leaders[which]?.getOrSet(QUOTA, () => {
          started.open();
          return rows[which]?.opened ?? '';
        });
        await started.opened;
        return { read };
      };
      const first = await lead(0);
      const waiter = support.isolate({ lease: 1_000, runtime });
      const read = waiter.getOrSet(QUOTA, () => 'own');
      await waitUntil(600);
      const fences = ['quota', 'quota:org-1'].map((scope) => support.key(`fence:${scope}`));
      await support.redis('DEL', ...(leader === 'gone' ? [await support.lease(QUOTA)] : fences));
      const second = await lead(1);
      await waitUntil(1_600);
      rows[1]?.open('second');
      assert.equal(await second.read, 'second');
      wake.open();
      assert.equal(await read, 'second');
      rows[0]?.open('first');
      assert.equal(await first.read, 'first');
    },
  })),
  {
    name: 'an entry that cannot be used any more has another lease than its own load: whoever needs a new one waits for nobody',
    run: async (support) => {
      const cache = await support.withWorker({ lease: 5_000 });
      await cache.getOrSet(QUOTA, () => 'old', 10, { staleIfError: 600 });
      support.ahead += 11_000;
      const cost = await support.counted(() => cache.getOrSet(QUOTA, () => 'new', 10));
      assert.deepEqual([cost.result, cost.commands], ['new', 3]);
    },
  },
];
