/** What the last run of `npm test` reported: its counts, and the tests that took longest (`npm run test:slowest`). */
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** Vitest's JSON report. It stays until the next run. */
export const REPORT_FILE = join(repository, 'node_modules/.cache/fencepost-tests.json');

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly duration?: number | null }[];
  }[];
}

/** Zeros when the run ended before it could write its report; the run has failed then. */
export function countTests(): { passed: number; failed: number; skipped: number } {
  const report = read();
  return {
    passed: report?.numPassedTests ?? 0,
    failed: report?.numFailedTests ?? 0,
    skipped: report?.numPendingTests ?? 0,
  };
}

/** One line a test: seconds, file and name; slowest first. */
export function slowestTests(count: number): string[] {
  return (read()?.testResults ?? [])
    .flatMap(({ name: file, assertionResults }) =>
      assertionResults.map(({ fullName, duration }) => ({ file, fullName, duration: duration ?? 0 })),
    )
    .sort((a, b) => b.duration - a.duration)
    .slice(0, count)
    .map(
      ({ file, fullName, duration }) =>
        `${(duration / 1000).toFixed(1).padStart(6)} s  ${relative(repository, file)}  ${fullName.trim()}`,
    );
}

function read(): Report | undefined {
  try {
    return JSON.parse(readFileSync(REPORT_FILE, 'utf8')) as Report;
  } catch {
    return undefined;
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const lines = slowestTests(20);
  console.log(lines.length > 0 ? lines.join('\n') : 'No run is recorded here yet: run `npm test` first.');
}
