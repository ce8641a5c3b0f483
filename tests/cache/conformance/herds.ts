/** Several readers at once: shared loads, leases between isolates, timeouts, signals, errors. */
import assert from 'node:assert/strict';
import { invalidate } from './invalidating.ts';
import { type Check, eventually, gate, QUOTA } from './support.ts';

export const herds: Check[] = [
  {
    name: 'concurrent misses in an isolate share one load, and each gets a value of its own',
    run: async (support) => {
      const cache = await support.withWorker();
      let loads = 0;
      const row = gate<{ limit: number }>();
      const readers = Array.from({ length: 30 }, () =>
        cache.getOrSet(QUOTA, () => {
          loads++;
          return row.opened;
        }),
      );
      await eventually(async () => loads > 0, 'a load begins');
      row.open({ limit: 1 });
      const values = await Promise.all(readers);
      assert.equal(loads, 1);
      assert.equal(new Set(values).size, 30);
      for (const value of values) assert.deepEqual(value, { limit: 1 });
    },
  },
  {
    name: 'a caller that starts after an acknowledged invalidation does not get an older load',
    run: async (support) => {
      const cache = await support.withWorker();
      const old = gate<string>();
      const started = gate();
      const before = cache.getOrSet(QUOTA, () => {
        started.open();
        return old.opened;
      });
      await started.opened;
      await cache.delPattern('quota:org-1:*');
      const after = cache.getOrSet(QUOTA, () => 'new');
      old.open('old');
      assert.deepEqual(await Promise.all([before, after]), ['old', 'new']);
      assert.equal(await cache.get(QUOTA), 'new');
    },
  },
  {
    name: 'a load that was invalidated stores nothing where its isolate knows, so that it replaces no better answer',
    run: async (support) => {
      const cache = await support.withWorker();
      const [old, started] = [gate<string>(), gate()];
      const before = cache.getOrSet(QUOTA, () => {
        started.open();
        return old.opened;
      });
      await started.opened;
      await invalidate(support, QUOTA);
      assert.equal(await cache.getOrSet(QUOTA, () => 'new'), 'new');
      const spent = await support.counted(async () => {
        old.open('old');
        return before;
      });
      assert.deepEqual([spent.result, spent.commands], ['old', 0]);
      assert.equal(await support.isolate().get(QUOTA), 'new');
    },
  },
  {
    name: 'callers of different identities do not share a load, but share what is stored',
    run: async (support) => {
      const cache = await support.withWorker();
      const first = gate<string>();
      const started = gate();
      const refused = cache.getOrSet(
        QUOTA,
        () => {
          started.open();
          return first.opened;
        },
        60,
        { identity: 'stranger' },
      );
      await started.opened;
      const member = cache.getOrSet(QUOTA, () => 'answer', 60, { identity: 'member' });
      first.fail(new Error('403'));
      await assert.rejects(refused, { message: '403' });
      assert.equal(await member, 'answer');
      assert.equal(await cache.getOrSet(QUOTA, () => 'unused', 60, { identity: 'third' }), 'answer');
    },
  },
  {
    name: 'two isolates load once; the other gets the stored value',
    run: async (support) => {
      const [one, other] = [await support.withWorker(), support.isolate()];
      const row = gate<string>();
      const started = gate();
      const leader = one.getOrSet(QUOTA, () => {
        started.open();
        return row.opened;
      });
      await started.opened;
      let loads = 0;
      const waiter = other.getOrSet(QUOTA, () => {
        loads++;
        return 'own';
      });
      await eventually(async () => other.stats().commands > 3, 'the other isolate waits');
      row.open('shared');
      assert.deepEqual(await Promise.all([leader, waiter]), ['shared', 'shared']);
      assert.equal(loads, 0);
    },
  },
  {
    name: "a dead leader's lease is waited for, but not longer than it lives",
    run: async (support) => {
      const cache = await support.withWorker({ lease: 300 });
      await cache.begin(QUOTA);
      const lease = await support.lease(QUOTA);
      const startedAt = performance.now();
      await support.redis('SET', lease, 'a dead leader', 'PX', 300);
      assert.equal(await cache.getOrSet(QUOTA, () => 'loaded'), 'loaded');
      assert.ok(performance.now() - startedAt >= 290, 'it waited');
      assert.equal(await cache.get(QUOTA), 'loaded');
      // A lease that is never given back delays a reader for the length of its own lease, not for ever.
      await support.redis('DEL', support.key(QUOTA));
      await support.redis('SET', await support.lease(QUOTA), 'for ever');
      assert.equal(await cache.getOrSet(QUOTA, () => 'again'), 'again');
    },
  },
  {
    name: "the loader's error is its callers', is not cached, and delays no later caller",
    run: async (support) => {
      const [cache, other] = [
        await support.withWorker({ lease: 30_000 }),
        support.isolate({ lease: 30_000 }),
      ];
      const failure = new RangeError('no such table');
      for (const load of [
        () => Promise.reject(failure),
        () => {
          throw failure;
        },
      ]) {
        await assert.rejects(cache.getOrSet(QUOTA, load), (error) => error === failure);
      }
      assert.equal(await other.getOrSet(QUOTA, () => 'loaded'), 'loaded');
      assert.equal(cache.stats().types.quota?.errors, 2);
    },
  },
  {
    name: 'a timeout ends the wait of one caller, not the load that others wait for',
    run: async (support) => {
      const cache = await support.withWorker();
      const row = gate<string>();
      let aborted = false;
      const load = ({ signal }: { signal: AbortSignal }) => {
        signal.addEventListener('abort', () => {
          aborted = true;
        });
        return row.opened;
      };
      const withoutTimeout = cache.getOrSet(QUOTA, load);
      await assert.rejects(cache.getOrSet(QUOTA, load, 60, { timeout: 20 }), { code: 'LOAD_TIMEOUT' });
      assert.equal(aborted, false);
      row.open('slow');
      assert.equal(await withoutTimeout, 'slow');
    },
  },
  {
    name: 'a signal ends the wait with its reason, and aborts the load when nobody waits for it any more',
    run: async (support) => {
      const cache = await support.withWorker();
      const controller = new AbortController();
      const loading = gate<AbortSignal>();
      const reader = cache.getOrSet(
        QUOTA,
        ({ signal }) => {
          loading.open(signal);
          return new Promise<string>((_, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason));
          });
        },
        60,
        { signal: controller.signal },
      );
      const signal = await loading.opened;
      controller.abort(new Error('the client hung up'));
      await assert.rejects(reader, { message: 'the client hung up' });
      assert.equal(signal.aborted, true);
      // Nobody joins the load that was given up.
      assert.equal(await cache.getOrSet(QUOTA, () => 'fresh'), 'fresh');
      await assert.rejects(
        cache.getOrSet(QUOTA, () => 1, 60, { signal: controller.signal }),
        /hung up/,
      );
    },
  },
  {
    name: 'bypass neither reads nor stores',
    run: async (support) => {
      const cache = await support.withWorker();
      const outcomes: string[] = [];
      const options = { bypass: true, onOutcome: (_: string, outcome: string) => outcomes.push(outcome) };
      const cost = await support.counted(() => cache.getOrSet(QUOTA, () => 1, 60, options));
      assert.deepEqual([cost.commands, cost.result, outcomes], [0, 1, ['bypass']]);
      assert.equal(await cache.get(QUOTA), null);
    },
  },
];
