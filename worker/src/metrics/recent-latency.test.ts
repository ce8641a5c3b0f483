import { expect, it } from 'vitest';
import { RecentLatencies, WINDOW_MINUTES } from './recent-latency.ts';

const WINDOW_MS = WINDOW_MINUTES * 60_000;

function stage() {
  const clock = { ms: 0 };
  return { clock, latencies: new RecentLatencies(() => clock.ms) };
}

it('knows nothing before the first row', () => {
  expect(stage().latencies.read()).toBeNull();
});

it('tells the median and the slowest hundredth', () => {
  const { latencies } = stage();
  for (let row = 0; row < 97; row++) latencies.observe(2);
  for (let row = 0; row < 3; row++) latencies.observe(500);
  const { medianMs, percentile99Ms } = latencies.read() ?? { medianMs: 0, percentile99Ms: 0 };
  expect(medianMs).toBeCloseTo(2, 1);
  expect(percentile99Ms / 500).toBeCloseTo(1, 2);
});

it('takes a clock that went back for no time at all', () => {
  const { latencies } = stage();
  latencies.observe(-5);
  expect(latencies.read()?.medianMs).toBeCloseTo(0.001);
});

it('remembers for half its window at least, and forgets when it has passed', () => {
  const { clock, latencies } = stage();
  latencies.observe(60_000);
  clock.ms = WINDOW_MS / 2 + 1;
  latencies.observe(2);
  expect(latencies.read()?.percentile99Ms).toBeGreaterThan(59_000);
  clock.ms = WINDOW_MS + 2;
  expect(latencies.read()?.percentile99Ms).toBeCloseTo(2, 1);
  clock.ms = 3 * WINDOW_MS;
  expect(latencies.read()).toBeNull();
});
