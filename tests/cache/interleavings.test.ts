/**
 * Every order of events, some thousands at a time: FENCEPOST_SCHEDULES sets how many (5 000 in `npm test`, 100 000 in a
 * nightly run). The negative controls prove that the property would notice a cache that is built wrong.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runScenario, scenario } from './interleavings.ts';
import type { Sabotage } from './scheduled-redis.ts';

const schedules = Number(process.env.FENCEPOST_SCHEDULES ?? 5_000);

describe('no schedule brings a stale value back', () => {
  it(`in ${schedules} schedules`, { timeout: 60_000 + schedules * 20 }, async () => {
    await fc.assert(
      fc.asyncProperty(scenario, (chosen) => runScenario(chosen, null)),
      { numRuns: schedules },
    );
  });

  const sabotages: Sabotage[] = ['no fences', 'stamp at store', 'repeated create', 'no epoch'];
  it.each(sabotages)(
    'but many do when the cache is built with %s',
    { timeout: 120_000 },
    async (sabotage) => {
      const result = await fc.check(
        fc.asyncProperty(scenario, (chosen) => runScenario(chosen, sabotage)),
        { numRuns: 20_000, endOnFailure: true },
      );
      expect(result.failed).toBe(true);
      expect(String(result.errorInstance)).toMatch(/was acknowledged before/);
    },
  );
});
