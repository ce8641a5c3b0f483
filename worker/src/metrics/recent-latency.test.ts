import { expect, it } from 'vitest';
import { RecentLatencies, WINDOW_MINUTES } from './recent-latency.ts';

const WINDOW_MS = WINDOW_MINUTES * 60_000;

/** A worker that started two minutes ago. */
function fixture() {
  const clock = { ms: 0 };
  const latencies = new RecentLatencies(() => clock.ms);
  clock.ms = 120_000;
  return { clock, latencies };
}

it('reads null before the first row', () => {
  expect(fixture().latencies.read()).toBeNull();
});

it('reads the median and the 99th percentile', () => {
  const { latencies } = fixture();
  for (let row = 0; row < 97; row++) latencies.observe(2);
  for (let row = 0; row < 3; row++) latencies.observe(500);
  const { medianMs, percentile99Ms } = latencies.read() ?? { medianMs: 0, percentile99Ms: 0 };
  expect(medianMs).toBeCloseTo(2, 1);
  expect(percentile99Ms / 500).toBeCloseTo(1, 2);
});

it('counts a negative age, after a clock stepped back, as zero', () => {
  const { latencies } = fixture();
  latencies.observe(-5);
  expect(latencies.read()?.medianMs).toBeCloseTo(0.001);
});

it('covers at least half of its window, and at most all of it', () => {
  const { clock, latencies } = fixture();
  latencies.observe(60_000);
  const start = clock.ms;
  clock.ms = start + WINDOW_MS / 2 + 1;
  latencies.observe(2);
  expect(latencies.read()?.percentile99Ms).toBeGreaterThan(59_000);
  clock.ms = start + WINDOW_MS + 2;
  expect(latencies.read()?.percentile99Ms).toBeCloseTo(2, 1);
  clock.ms = start + 3 * WINDOW_MS;
  expect(latencies.read()).toBeNull();
});

it('leaves out what was written before the worker started', () => {
  const { clock, latencies } = fixture();
  latencies.observe(120_001);
  latencies.observe(3_600_000);
  expect(latencies.read()).toBeNull();
  latencies.observe(119_999);
  expect(latencies.read()?.medianMs).toBeCloseTo(119_999, -3);
  // An hour later a row of an hour was written after the start: an outage of this worker's time counts.
  clock.ms += 3_600_000;
  latencies.observe(3_600_000);
  expect(latencies.read()?.medianMs).toBeCloseTo(3_600_000, -4);
});
