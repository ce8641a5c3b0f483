import { defineConfig } from 'vitest/config';

/**
 * Every TypeScript test of the repository. Unit tests stand beside the code they check; what crosses parts stands in
 * tests/. One Postgres serves the whole run (tests/support/global.ts); each file clones its database from a template.
 */
export default defineConfig({
  test: {
    include: [
      'worker/src/**/*.test.ts',
      'local/**/*.test.ts',
      'supabase/functions/**/*.test.ts',
      'tests/**/*.test.ts',
    ],
    globalSetup: ['tests/support/global.ts'],
    // Real Postgres, Redis and Deno processes start inside tests; two cores serve them all.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
  },
});
