import { expect, it } from 'vitest';
import { planOfEntry } from '../protocol/key-state.ts';
import { systemRuntime } from '../redis/runtime.ts';
import { LocalLevel } from './local-level.ts';

it.each([
  ['entries', (place: number) => `key:${place}`, 'v'.repeat(1_000_000)],
  ['names', (place: number) => `key:${place}:${'n'.repeat(300_000)}`, 'v'],
])('holds no more than 16 million characters of %s', (_, keyOf, entry) => {
  const local = new LocalLevel({ ttlMs: 60_000, max: 1_000 }, systemRuntime);
  const plans = Array.from({ length: 20 }, (_, place) => {
    return { ...planOfEntry('key', null), key: keyOf(place), fences: [keyOf(place), keyOf(place)] };
  });
  for (const plan of plans) {
    const reading = local.begin();
    const state = { plan, fences: ['f', 'f', 'e'], epoch: 'e', heartbeat: 'e', entry, lease: null };
    local.answered(reading, [state]);
    local.fill(reading, state, Number.POSITIVE_INFINITY);
  }
  const kept = plans.filter((plan) => local.find(plan) !== null);
  expect(kept.length).toBeGreaterThan(10);
  expect(kept).toEqual(plans.slice(20 - kept.length));
  expect(kept.length).toBeLessThan(18);
});
