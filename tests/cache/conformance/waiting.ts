/** Waiting for somebody else's load: only as long as it can help, and never for one that is known to bring nothing. */
import assert from 'node:assert/strict';
import type { Runtime } from '../../../supabase/functions/_shared/cache/redis/runtime.ts';
import { systemRuntime } from '../../../supabase/functions/_shared/cache/redis/runtime.ts';
import { type Check, eventually, gate, QUOTA, type Workbench } from './workbench.ts';

const LEASE = `fencepost:lease:${QUOTA}`;

/** The pauses between two looks at another isolate's load are at most this long. */
const LONGEST_PAUSE_MS = 250;

/** A clock on which pauses pass at once, and on which no timeout ever comes. */
function hurried(bench: Workbench): Runtime {
  return {
    ...systemRuntime,
    now: () => Date.now() + bench.ahead,
    monotonic: () => bench.lasting,
    sleep: async (milliseconds, signal) => {
      if (milliseconds > LONGEST_PAUSE_MS) {
        return new Promise((resolve) => signal?.addEventListener('abort', () => resolve()));
      }
      bench.lasting += milliseconds;
    },
  };
}

/** What is not kept, and the TTL and options that it is asked for with. */
const unkept: [what: string, value: () => unknown, ttl: number, options: { negativeTtl?: number }][] = [
  ['JSON would change it', () => ({ at: new Date(0) }), 300, {}],
  ['it is too large', () => 'x'.repeat(2_000), 300, {}],
  ['absence, with a negativeTtl of 0', () => null, 300, { negativeTtl: 0 }],
  ['a TTL of 0', () => 1, 0, {}],
];

export const waiting: Check[] = [
  {
    name: 'a call with a timeout waits half of it for a dead leader, then loads; it does not join a more patient wait',
    run: async (bench) => {
      const lease = 60_000;
      await bench.heartbeat('epoch-1');
      await bench.redis('SET', bench.key(LEASE), 'somebody who died', 'PX', lease);
      const cache = bench.isolate({ lease });
      const patient = cache.getOrSet(QUOTA, () => 'patient');
      await eventually(async () => cache.stats().commands > 4, 'somebody waits for the leader');
      const hasty = bench.isolate({ lease, runtime: hurried(bench) });
      let waited = 0;
      const load = () => {
        waited = bench.lasting;
        return 'hasty';
      };
      assert.equal(await hasty.getOrSet(QUOTA, load, 60, { timeout: 1_000 }), 'hasty');
      assert.ok(waited >= 499 && waited <= 501, `it waited ${waited} ms`);
      assert.equal(await patient, 'hasty');
      // In the isolate of the patient one too.
      await bench.redis('DEL', bench.key(QUOTA));
      await bench.redis('SET', bench.key(LEASE), 'somebody who died', 'PX', lease);
      const asked = cache.stats().commands;
      const again = cache.getOrSet(QUOTA, () => 'patient');
      await eventually(async () => cache.stats().commands > asked + 4, 'somebody waits once more');
      assert.equal(await cache.getOrSet(QUOTA, () => 'own', 60, { timeout: 400 }), 'own');
      assert.equal(await again, 'own');
    },
  },
  ...unkept.map(
    ([what, value, ttl, options]): Check => ({
      name: `loads of which nothing is kept do not wait for each other: ${what}`,
      run: async (bench) => {
        const settings = { lease: 60_000, maxValueBytes: 1_000 };
        const isolates = [await bench.withWorker(settings), bench.isolate(settings)] as const;
        // Each learns it from a load of its own, unless the options say it.
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
    name: 'once a value is kept again, so is the lease',
    run: async (bench) => {
      const cache = await bench.withWorker();
      const leased = async () => Number(await bench.redis('EXISTS', bench.key(LEASE)));
      assert.equal(await cache.getOrSet<unknown>(QUOTA, () => 5n), 5n);
      assert.equal(await cache.getOrSet(QUOTA, leased), 0);
      await cache.del(QUOTA);
      assert.equal(await cache.getOrSet(QUOTA, leased), 1);
    },
  },
  ...[true, false].map(
    (kept): Check => ({
      name: `who has to load again has what is left of its timeout, and its stale answer (kept: ${kept})`,
      run: async (bench) => {
        const timeout = 20_000;
        const waits = gate();
        const runtime: Runtime = {
          ...systemRuntime,
          now: () => Date.now() + bench.ahead,
          monotonic: () => performance.now() + bench.lasting,
          sleep: (milliseconds, signal) => {
            if (milliseconds === timeout) waits.open();
            return systemRuntime.sleep(milliseconds, signal);
          },
        };
        const cache = await bench.withWorker({ runtime });
        const options = kept ? { staleIfError: 600 } : {};
        await cache.getOrSet<unknown>(QUOTA, () => 'old', 10, options);
        bench.ahead += 11_000;
        if (!kept) await cache.del(QUOTA);
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
        bench.lasting += timeout - 20;
        // It cannot be copied, so the second caller has to load for itself.
        row.open(5n);
        if (kept) assert.equal(await second, 'old');
        else await assert.rejects(second, { code: 'LOAD_TIMEOUT' });
        assert.equal(await first, 5n);
      },
    }),
  ),
  {
    name: 'nobody waits here for a load whose fences have gone: its lease goes to the next load, whose answer others wait for',
    run: async (bench) => {
      const settings = { lease: 60_000 };
      const [cache, other] = [await bench.withWorker(settings), bench.isolate(settings)];
      const [old, row] = [gate<string>(), gate<string>()];
      const [dead, started] = [gate(), gate()];
      const before = cache.getOrSet(QUOTA, () => {
        dead.open();
        return old.opened;
      });
      await dead.opened;
      await other.del(QUOTA);
      const after = cache.getOrSet(QUOTA, () => {
        started.open();
        return row.opened;
      });
      await started.opened;
      const asked = other.stats().commands;
      const waiter = other.getOrSet(QUOTA, () => assert.fail('loaded'));
      await eventually(async () => other.stats().commands > asked + 3, 'the other isolate waits');
      row.open('new');
      assert.deepEqual(await Promise.all([after, waiter]), ['new', 'new']);
      assert.equal(await bench.redis('EXISTS', bench.key(LEASE)), 0);
      // The dead load has no lease any more to give back.
      await bench.redis('SET', bench.key(LEASE), 'somebody else');
      old.open('old');
      assert.equal(await before, 'old');
      assert.equal(await bench.redis('GET', bench.key(LEASE)), 'somebody else');
    },
  },
];
