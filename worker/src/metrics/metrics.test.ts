import { expect, it } from 'vitest';
import { Metrics } from './metrics.ts';

it('projects the costs of a month when an hour has gone by, not from the commands of a start', async () => {
  let now = 0;
  const metrics = new Metrics(() => now);
  for (let count = 0; count < 100; count++) metrics.command('DEL');
  now = 40_000;
  expect((await metrics.text()).text).not.toContain('projected_monthly');
  now = 2 * 3_600_000;
  for (let scrape = 0; scrape < 2; scrape++) {
    const { text } = await metrics.text();
    // 50 commands an hour, 720 hours a month.
    expect(text).toMatch(/^fencepost_upstash_projected_monthly_commands 36000$/m);
    expect(text).toMatch(/^fencepost_upstash_projected_monthly_dollars 0\.072/m);
  }
});

it('leaves rows from before the worker’s start out of the recent latency, and counts them in the histogram', async () => {
  const startedAt = 1_000;
  const metrics = new Metrics(() => startedAt);
  // Ages are by the database's clock, and so durations: only they are compared with the worker's own time.
  const deliver = (claimedAt: number, ageMs: number) =>
    metrics.batch({
      targets: [{ target: 't', watchId: 1, op: 'u', ageMs }],
      distinctTargets: 1,
      changes: 1,
      keys: 1,
      claimedAt,
      applyMs: 2,
    });
  deliver(startedAt + 50, 51);
  deliver(startedAt + 5_000, 600_000);
  expect(metrics.recent.read()).toBeNull();
  deliver(startedAt + 5_000, 4_998);
  expect(metrics.recent.read()?.medianMs).toBeCloseTo(5_000, -2);
  expect((await metrics.text()).text).toContain('fencepost_commit_to_delete_seconds_count 3');
});
