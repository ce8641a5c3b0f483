/** Loads that hang, callers that leave, leases that run out: the other callers are served, and nothing is left behind. */
import assert from 'node:assert/strict';
import { HUNG_AFTER_MS } from '../../../supabase/functions/_shared/cache/client/single-flight.ts';
import { systemRuntime } from '../../../supabase/functions/_shared/cache/redis/runtime.ts';
import { createCache } from '../../../supabase/functions/_shared/cache.ts';
import { type Check, eventually, gate, QUOTA, type Support } from './support.ts';

const OTHER = 'quota:org-1:openai:gpt-4';
const never = () => new Promise<never>(() => {});

/** A clock on which half a minute passes as soon as a caller waits for it. */
function skippingHalfMinutes(support: Support) {
  return {
    ...systemRuntime,
    now: () => Date.now() + support.ahead,
    monotonic: () => performance.now() + support.lasting,
    sleep: async (milliseconds: number, signal?: AbortSignal) => {
      if (milliseconds < HUNG_AFTER_MS / 2) return systemRuntime.sleep(milliseconds, signal);
      await systemRuntime.sleep(20, signal);
      if (signal?.aborted !== true) support.lasting += milliseconds;
    },
  };
}

export const waitLimits: Check[] = [
  ...[20, undefined].map(
    (timeout): Check => ({
      name: `a refresh that hangs is given up (timeout: ${timeout}), and the next one is tried`,
      run: async (support) => {
        await support.heartbeat('epoch-1');
        const cache = support.isolate({ lease: 20, runtime: skippingHalfMinutes(support) });
        const options = { staleWhileRevalidate: 600, timeout };
        // Without a lease, which on a busy machine would outlast the 20 ms that the refresh has.
        await cache.getOrSet(QUOTA, () => 'old', 10, { staleWhileRevalidate: 600, lease: 0 });
        support.ahead += 11_000;
        const hanging = gate<AbortSignal>();
        const hang = ({ signal }: { signal: AbortSignal }) => {
          hanging.open(signal);
          return never();
        };
        assert.equal(await cache.getOrSet(QUOTA, hang, 10, options), 'old');
        const signal = await hanging.opened;
        await eventually(async () => signal.aborted, 'the signal says that nobody waits for the refresh');
        await eventually(async () => {
          return (await cache.getOrSet(QUOTA, () => 'new', 10, options)) === 'new';
        }, 'another refresh has stored its answer');
      },
    }),
  ),
  {
    name: 'nobody joins a load that hangs',
    run: async (support) => {
      const cache = await support.withWorker({ lease: 0 });
      const started = gate();
      void cache.getOrSet(QUOTA, () => {
        started.open();
        return never();
      });
      await started.opened;
      support.lasting += HUNG_AFTER_MS;
      assert.equal(await cache.getOrSet(QUOTA, () => 'new'), 'new');
      assert.equal(await cache.get(QUOTA), 'new');
    },
  },
  {
    name: 'a caller that has joined a load starts over when that hangs; so a loader that asks for its own key ends, with a warning',
    run: async (support) => {
      await support.heartbeat('epoch-1');
      const cache = support.isolate({ runtime: skippingHalfMinutes(support) });
      const inner = () => cache.getOrSet(QUOTA, () => 'inner');
      assert.equal(await cache.getOrSet(QUOTA, inner), 'inner');
      assert.equal(support.logged.length, 1);
      assert.match(support.logged[0] ?? '', /type quota has taken longer than 30 s/);
    },
  },
  {
    name: 'when one of two callers of a load leaves, the other gets it; when both leave, it is aborted, and what it gives is still stored',
    run: async (support) => {
      const cache = await support.withWorker();
      const row = gate<string>();
      const loading = gate<AbortSignal>();
      const load = ({ signal }: { signal: AbortSignal }) => {
        loading.open(signal);
        return row.opened;
      };
      const controllers = [new AbortController(), new AbortController(), new AbortController()];
      let boarded = 0;
      const onOutcome = () => {
        boarded++;
      };
      const readers = controllers.map(({ signal }) => cache.getOrSet(QUOTA, load, 60, { signal, onOutcome }));
      const signal = await loading.opened;
      await eventually(async () => boarded === 3, 'all wait for that load');
      controllers[0]?.abort(new Error('first'));
      await assert.rejects(readers[0] ?? never(), { message: 'first' });
      assert.equal(signal.aborted, false);
      controllers[1]?.abort(new Error('second'));
      controllers[2]?.abort(new Error('third'));
      await assert.rejects(readers[1] ?? never(), { message: 'second' });
      await assert.rejects(readers[2] ?? never(), { message: 'third' });
      assert.equal(signal.aborted, true);
      row.open('late');
      await eventually(async () => (await cache.get(QUOTA)) === 'late', 'the late answer is stored');
    },
  },
  {
    name: 'a batch that was given up loads nothing more once the callers that joined a part of it are answered',
    run: async (support) => {
      const cache = await support.withWorker({ lease: 60_000 });
      // Another isolate holds the lease of the other key, so the batch loads one and waits for the other.
      await cache.begin(OTHER);
      await support.redis('SET', await support.lease(OTHER), 'another isolate');
      const controller = new AbortController();
      const row = gate<string>();
      const loading = gate<AbortSignal>();
      const load = async (keys: readonly string[], { signal }: { signal: AbortSignal }) => {
        loading.open(signal);
        const value = await row.opened;
        return new Map(keys.map((key) => [key, value]));
      };
      const batch = cache.getOrSetMany([QUOTA, OTHER], load, 60, { signal: controller.signal });
      const signal = await loading.opened;
      let joined = false;
      const onOutcome = () => {
        joined = true;
      };
      const part = cache.getOrSet(QUOTA, () => assert.fail('loaded'), 60, { onOutcome });
      await eventually(async () => joined, 'a caller joins a part');
      controller.abort(new Error('gone'));
      await assert.rejects(batch, { message: 'gone' });
      assert.equal(signal.aborted, false);
      row.open('row');
      assert.equal(await part, 'row');
      assert.equal(signal.aborted, true);
    },
  },
  {
    name: 'a batch that fails leaves the loads it has joined',
    run: async (support) => {
      const cache = await support.withWorker();
      const controller = new AbortController();
      const loading = gate<AbortSignal>();
      const first = cache.getOrSet(
        QUOTA,
        ({ signal }) => {
          loading.open(signal);
          return never();
        },
        60,
        { signal: controller.signal },
      );
      const signal = await loading.opened;
      const failing = { code: 'INVALID_LOAD' };
      const bad = async () => null as unknown as Record<string, number>;
      await assert.rejects(cache.getOrSetMany([QUOTA, OTHER], bad), failing);
      assert.equal(signal.aborted, false);
      controller.abort(new Error('gone'));
      await assert.rejects(first, { message: 'gone' });
      assert.equal(signal.aborted, true);
    },
  },
  {
    name: 'while Redis is away, callers of one moment share a load, each with a value of its own; later ones do not',
    run: async () => {
      const cache = createCache({ connection: null, log: () => {} });
      let loads = 0;
      const row = gate<{ n: number }>();
      const load = () => {
        loads++;
        return row.opened;
      };
      const readers = Array.from({ length: 30 }, () => cache.getOrSet(QUOTA, load));
      const batch = cache.getOrSetMany([QUOTA], async () => assert.fail('loaded'));
      const stranger = cache.getOrSet(QUOTA, () => ({ n: 3 }), 60, { identity: 'stranger' });
      await eventually(async () => loads === 1, 'the load begins');
      // A row written now is not in those loads, so callers that ask from now on must not share them.
      assert.deepEqual(await cache.getOrSet(QUOTA, () => ({ n: 2 })), { n: 2 });
      row.open({ n: 1 });
      const values = await Promise.all(readers);
      assert.equal(loads, 1);
      assert.deepEqual(await stranger, { n: 3 });
      assert.equal(new Set(values).size, 30);
      for (const value of values) assert.deepEqual(value, { n: 1 });
      assert.deepEqual((await batch).get(QUOTA), { n: 1 });
      // Bypass is a load of the caller's own, whoever else asks.
      const own = await Promise.all([1, 2].map((n) => cache.getOrSet(QUOTA, () => n, 60, { bypass: true })));
      assert.deepEqual(own, [1, 2]);
    },
  },
  {
    name: 'a lease that may have run out is not given back: it may be the next owner’s',
    run: async (support) => {
      const cache = await support.withWorker();
      const run = async (lasts: number): Promise<unknown> => {
        const row = gate<string>();
        const started = gate();
        const reader = cache.getOrSet(QUOTA, () => {
          started.open();
          return row.opened;
        });
        await started.opened;
        support.lasting += lasts;
        const lease = await support.lease(QUOTA);
        await support.redis('SET', lease, 'another isolate');
        row.fail(new Error('no row'));
        await assert.rejects(reader, { message: 'no row' });
        await cache.del(QUOTA);
        return support.redis('GETDEL', lease);
      };
      assert.equal(await run(800), 'another isolate');
      assert.equal(await run(0), null);
    },
  },
  {
    name: 'a lease is given back when nothing was stored, or nothing that lives as long as it does; else it is left',
    run: async (support) => {
      const lease = 10_000;
      const cache = await support.withWorker({ lease, maxValueBytes: 1_000 });
      const leased = async (value: unknown, ttl: number, negativeTtl?: number) => {
        let name = '';
        const load = async () => {
          name = await support.lease(QUOTA);
          return value;
        };
        await cache.del(QUOTA);
        await cache.getOrSet<unknown>(QUOTA, load, ttl, { negativeTtl });
        return support.redis('EXISTS', name);
      };
      assert.equal(await leased(1, 60), 1);
      assert.equal(await leased(1, 5), 0);
      assert.equal(await leased('x'.repeat(2_000), 60), 0);
      const other = await support.withWorker({ lease });
      assert.equal(await other.getOrSet(QUOTA, () => 'at once'), 'at once');
    },
  },
  {
    name: 'a lease can be as long as the load of a call needs',
    run: async (support) => {
      const [one, other] = [await support.withWorker({ lease: 20 }), support.isolate({ lease: 20 })];
      const row = gate<string>();
      const started = gate();
      const load = () => {
        started.open();
        return row.opened;
      };
      const leader = one.getOrSet(QUOTA, load, 60, { lease: 30_000 });
      await started.opened;
      assert.ok(Number(await support.redis('PTTL', await support.lease(QUOTA))) > 20_000);
      const waiter = other.getOrSet(QUOTA, () => assert.fail('loaded'), 60, { lease: 30_000 });
      await eventually(async () => other.stats().commands > 4, 'the other isolate waits');
      row.open('shared');
      assert.deepEqual(await Promise.all([leader, waiter]), ['shared', 'shared']);
    },
  },
];
