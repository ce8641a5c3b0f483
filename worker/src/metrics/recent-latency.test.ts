import { expect, it } from 'vitest';
import { RecentLatencies, WINDOW_MINUTES } from './recent-latency.ts';

const WINDOW_MS = WINDOW_MINUTES * 60_000;

function fixture() {
  const clock = { ms: 0 };
  return { clock, latencies: new RecentLatencies(() => clock.ms) };
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
  clock.ms = WINDOW_MS / 2 + 1;
  latencies.observe(2);
  expect(latencies.read()?.percentile99Ms).toBeGreaterThan(59_000);
  clock.ms = WINDOW_MS + 2;
  expect(latencies.read()?.percentile99Ms).toBeCloseTo(2, 1);
  clock.ms = 3 * WINDOW_MS;
  expect(latencies.read()).toBeNull();
});
