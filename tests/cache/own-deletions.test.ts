/**
 * A `get` or `begin` is under way while the same isolate deletes the key. There are under a hundred orders of their steps, so that some
 * hundreds of schedules meet each.
 */
import * as fc from 'fast-check';
import { expect, it } from 'vitest';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { type Cache, createCache } from '../../supabase/functions/_shared/cache.ts';
import { ScheduledRedis } from './scheduled-redis.ts';
import { scheduledRuntime } from './scheduled-runtime.ts';

const KEY = 'quota:org-1:openai:gpt-5';

it.each([
  ['get', false],
  ['get', true],
  ['begin', false],
] as const)('after %s, set is true for exactly what can be read (cached: %s)', async (kind, cached) => {
  const start = async (cache: Cache) => (kind === 'get' ? void (await cache.get(KEY)) : cache.begin(KEY));
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), async (scheduler) => {
      const clock = { now: 1_793_527_200_000 };
      const redis = new ScheduledRedis(scheduler, clock, () => 'none', null);
      let tokens = 0;
      const step = (label: string) => scheduler.schedule(Promise.resolve(), label);
      const runtime = scheduledRuntime(clock, step, () => `token ${++tokens}`, false);
      const cache = createCache({ connection: redis.connect('A'), runtime, log: () => {} });
      const epoch = [EPOCH_KEY, HEARTBEAT_KEY].map((key) => ({ key, value: 'epoch 1', seconds: 90 }));
      await scheduler.waitFor(redis.serve('worker').setTogether(epoch));
      if (cached) await scheduler.waitFor(cache.getOrSet(KEY, () => 'older'));
      const started = step('the read').then(() => start(cache));
      const deleted = step('the deletion').then(() => cache.del(KEY));
      const [token] = await scheduler.waitFor(Promise.all([started, deleted]));
      const isStored = await scheduler.waitFor(cache.set(KEY, 'loaded', 60, token));
      const { hit } = await scheduler.waitFor(cache.lookup(KEY));
      expect(hit).toBe(isStored);
    }),
    { numRuns: 500 },
  );
});
