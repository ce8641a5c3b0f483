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
