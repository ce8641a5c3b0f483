/**
 * The order of the test files: those that take longest first, so that no worker is left with one at the end of the run.
 * Vitest remembers how long each file took, but a fresh clone remembers nothing: the slowest files are listed here.
 */
import { relative } from 'node:path';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Slowest first; `npm run test:slowest` shows what the last run took. Where a file is missing here, nothing breaks. */
const SLOWEST = [
  // Runs all of pgTAP while its tests are collected: vitest does not count that as the time of a test.
  'tests/capture/pgtap.test.ts',
  'tests/worker/dashboard.test.ts',
  'tests/worker/queue-away.test.ts',
  'tests/worker/commands.test.ts',
  'tests/local/start.test.ts',
  'tests/worker/faults-redis.test.ts',
  'tests/worker/faults-postgres.test.ts',
  'tests/worker/self-checks.test.ts',
  'tests/worker/several-workers.test.ts',
  'tests/worker/foreign-sessions.test.ts',
  'tests/worker/leadership.test.ts',
  'tests/worker/min-interval.test.ts',
  'tests/worker/bad-input.test.ts',
  'tests/worker/start-stop.test.ts',
  'tests/worker/warm-requests.test.ts',
  'tests/cache/conformance/conformance.test.ts',
  'tests/capture/busy-tables.test.ts',
];

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const others = await super.sort(files);
    const rank = (file: TestSpecification) => {
      const place = SLOWEST.indexOf(relative(this.ctx.config.root, file.moduleId));
      return place === -1 ? SLOWEST.length : place;
    };
    // Stable: what has no rank keeps vitest's order, which puts the projects one after the other, `unit` last.
    return others.sort((a, b) => rank(a) - rank(b));
  }
}
