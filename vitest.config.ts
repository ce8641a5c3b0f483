import { defineConfig } from 'vitest/config';
import { LongestFirst } from './tests/support/longest-first.ts';

/**
 * Every TypeScript test of the repository, in three projects (`vitest run --project sql` runs one of them):
 *
 *   unit      beside the code it checks, and the documents: no server, no process
 *   sql       the migrations in Postgres, without a worker
 *   process   real servers, workers, edge functions and command lines
 *
 * How long a test or a poll may take is no promise of ours: a busy machine takes its time to start servers and processes. What is one is
 * checked by the test itself.
 *
 * One Postgres serves the whole run (tests/support/global.ts) and starts when the first file asks for a database.
 */
export default defineConfig({
  test: {
    globalSetup: ['tests/support/global.ts'],
    sequence: { sequencer: LongestFirst },
    // More than the two cores of a small machine: most files wait for servers and timers most of the time.
    maxWorkers: 5,
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            '{worker/src,local,supabase/functions}/**/*.test.ts',
            'tests/{docs,support}/**/*.test.ts',
          ],
          isolate: false,
          testTimeout: 30_000,
          expect: { poll: { timeout: 20_000 } },
        },
      },
      {
        test: {
          name: 'sql',
          include: ['tests/capture/**/*.test.ts'],
          isolate: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          expect: { poll: { timeout: 60_000 } },
        },
      },
      {
        test: {
          name: 'process',
          // Everything that is in no other project, so that a new folder is not forgotten.
          include: ['tests/**/*.test.ts'],
          exclude: ['tests/{capture,docs,support}/**', '**/node_modules/**'],
          globalSetup: ['tests/support/build-worker.ts'],
          isolate: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          expect: { poll: { timeout: 60_000 } },
        },
      },
    ],
  },
});
