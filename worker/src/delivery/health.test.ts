import { expect, it } from 'vitest';
import { Flow, STALL_MS, stallAfter } from './health.ts';

it.each([
  [5_000, STALL_MS],
  [40_000, 50_000],
  [60_000, 70_000],
])('a worker that looks every %i ms stalls after %i ms of silence', (pollMs, stallMs) => {
  let clock = 0;
  const flow = new Flow(() => clock, stallAfter(pollMs));
  expect(flow.flowing).toBe(false);
  flow.drained();
  clock = stallMs;
  expect(flow.flowing).toBe(true);
  clock = stallMs + 1;
  expect(flow.flowing).toBe(false);
});
