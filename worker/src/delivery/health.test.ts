import { expect, it } from 'vitest';
import { DeliveryHealth, STALL_MS, stallAfter } from './health.ts';

it.each([
  [5_000, STALL_MS],
  [40_000, 50_000],
  [60_000, 70_000],
])('a worker that polls every %i ms counts as stalled after %i ms', (pollMs, stallMs) => {
  let clock = 0;
  const health = new DeliveryHealth(() => clock, stallAfter(pollMs));
  expect(health.flowing).toBe(false);
  health.emptied();
  clock = stallMs;
  expect(health.flowing).toBe(true);
  clock = stallMs + 1;
  expect(health.flowing).toBe(false);
});
