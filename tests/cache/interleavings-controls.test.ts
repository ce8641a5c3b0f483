/** The negative controls of the interleavings: the properties notice each of the caches that are built wrong. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { runHerd, runScenario } from './interleavings.ts';
import {
  dependent,
  duel,
  epochs,
  foreignDeletions,
  herd,
  invalidatedHerd,
  plain,
  type scenario,
} from './scenarios.ts';
import type { Sabotage } from './scheduled-redis.ts';

describe('a stale value comes back', () => {
  // Each is found within some 4 000 schedules; ten times as many make a chance miss all but impossible.
  const sabotages: [Sabotage | null, typeof scenario][] = [
    ['no fences', duel],
    ['stamp at store', duel],
    ['repeated create', duel],
    ['no epoch', duel],
    ['epoch in the heartbeat', epochs],
    ['revived epoch', epochs],
    ['own fences alone', dependent],
    ['group fence alone', dependent],
    ['no memory', plain],
    // Built right, with a first level in process that another isolate's deletions do not reach.
    [null, foreignDeletions],
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

describe('a herd loads once too often', () => {
  it.each<[Sabotage, typeof scenario]>([
    ['release after store', herd],
    ['every creation won', herd],
    ['dead entry in the lease', invalidatedHerd],
  ])('when the cache is built with %s', { timeout: 300_000 }, async (sabotage, scenarios) => {
    const result = await fc.check(
      fc.asyncProperty(scenarios, (chosen) => runHerd(chosen, sabotage)),
      { numRuns: 40_000, endOnFailure: true },
    );
    expect(String(result.errorInstance)).toMatch(/loads for one herd/);
  });
});
