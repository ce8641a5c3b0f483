/**
 * Random orders of events, some thousands at a time: FENCEPOST_SCHEDULES sets how many (5 000 in `npm test`, 100 000 in a
 * nightly run). Two test files run half of them each, side by side.
 */
import * as fc from 'fast-check';
import { describe, it } from 'vitest';
import { runHerd, runScenario } from './interleavings.ts';
import {
  dependent,
  duel,
  epochs,
  herd,
  invalidatedHerd,
  ownDeletions,
  plain,
  scenario,
} from './scenarios.ts';

const half = Math.ceil(Number(process.env.FENCEPOST_SCHEDULES ?? 5_000) / 2);

export function testHalfOfTheSchedules(): void {
  describe('a stale value comes back', () => {
    it(`in none of ${half} schedules`, { timeout: 60_000 + half * 40 }, async () => {
      const any = fc.oneof(
        { weight: 4, arbitrary: scenario },
        { weight: 1, arbitrary: duel },
        { weight: 2, arbitrary: epochs },
        { weight: 1, arbitrary: dependent },
        { weight: 1, arbitrary: plain },
        { weight: 1, arbitrary: ownDeletions },
      );
      await fc.assert(
        fc.asyncProperty(any, (chosen) => runScenario(chosen, null)),
        { numRuns: half },
      );
    });
  });
  describe('a herd loads once', () => {
    const tenth = Math.ceil(half / 10);
    it(`in all of ${tenth} schedules`, { timeout: 60_000 + tenth * 40 }, async () => {
      await fc.assert(
        fc.asyncProperty(herd, (chosen) => runHerd(chosen, null)),
        { numRuns: tenth },
      );
    });
    it(`and once more for each invalidation, in all of ${tenth} schedules`, {
      timeout: 60_000 + tenth * 40,
    }, async () => {
      await fc.assert(
        fc.asyncProperty(invalidatedHerd, (chosen) => runHerd(chosen, null)),
        { numRuns: tenth },
      );
    });
  });
}
