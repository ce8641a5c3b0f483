/**
 * Every order of events, some thousands at a time: FENCEPOST_SCHEDULES sets how many (5 000 in `npm test`, 100 000 in a
 * nightly run). The negative controls prove that the property would notice a cache that is built wrong.
 */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runScenario } from './interleavings.ts';
import { duel, epochs, scenario } from './scenarios.ts';
import type { Sabotage } from './scheduled-redis.ts';

const schedules = Number(process.env.FENCEPOST_SCHEDULES ?? 5_000);

describe('a stale value comes back', () => {
  it(`in none of ${schedules} schedules`, { timeout: 60_000 + schedules * 20 }, async () => {
    const any = fc.oneof(
      { weight: 4, arbitrary: scenario },
      { weight: 1, arbitrary: duel },
      { weight: 2, arbitrary: epochs },
    );
    await fc.assert(
      fc.asyncProperty(any, (chosen) => runScenario(chosen, null)),
      { numRuns: schedules },
    );
  });

  // Each is found within some 4 000 schedules; ten times as many make a chance miss all but impossible.
  const sabotages: [Sabotage, typeof scenario][] = [
    ['no fences', duel],
    ['stamp at store', duel],
    ['repeated create', duel],
    ['no epoch', duel],
    ['epoch in the heartbeat', epochs],
    ['revived epoch', epochs],
  ];
  it.each(sabotages)('when the cache is built with %s', { timeout: 300_000 }, async (sabotage, scenarios) => {
    const result = await fc.check(
      fc.asyncProperty(scenarios, (chosen) => runScenario(chosen, sabotage)),
      { numRuns: 40_000, endOnFailure: true },
    );
    expect(result.failed).toBe(true);
    expect(String(result.errorInstance)).toMatch(/was acknowledged before/);
  });
});
