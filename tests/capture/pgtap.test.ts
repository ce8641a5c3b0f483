/**
 * Runs supabase/tests/database/*.test.sql, which `supabase test db` would run as well, and reports each TAP line as a
 * test. On every version of Postgres this run is about (postgres-versions.ts).
 *
 * pgTAP is plain SQL: its script is loaded into the schema `extensions`, so that the server needs no file of it.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { cloneFrom, startTemplate } from '../support/template.ts';
import { findPgtap } from './debian-extensions.ts';
import { ensureVersions, versionsUnderTest } from './postgres-versions.ts';

interface TapLine {
  readonly passed: boolean;
  readonly description: string;
  readonly diagnostics: string;
}

const folder = fileURLToPath(new URL('../../supabase/tests/database', import.meta.url));
const files = readdirSync(folder).filter((file) => file.endsWith('.test.sql'));

// Vitest must know the tests' names before it runs them, so the SQL runs while they are collected.
const pgtap = await findPgtap();
if (pgtap.path === undefined) {
  test.skip(`pgTAP is not installed. ${pgtap.reason}`);
} else {
  await ensureVersions();
  for (const version of versionsUnderTest()) {
    const results = await runAll(version, pgtap.path);
    describe(`Postgres ${version}`, () => {
      test.each(results)('$file', ({ lines, failure }) => {
        expect(failure).toBe('');
        expect(lines.length).toBeGreaterThan(0);
      });
      for (const { file, lines } of results) {
        describe(file, () => {
          for (const line of lines) {
            test(line.description, () => {
              expect(line.passed, line.diagnostics).toBe(true);
            });
          }
        });
      }
    });
  }
}

interface FileResult {
  readonly file: string;
  readonly lines: readonly TapLine[];
  /** Why the file did not run to its end, or not as many tests as planned. */
  readonly failure: string;
}

async function runAll(version: 15 | 16 | 17 | 18, pgtapPath: string): Promise<FileResult[]> {
  const server = version === 17 ? undefined : await startTemplate({ version });
  try {
    const database: ClonedDatabase =
      server === undefined ? await cloneDatabase() : await cloneFrom(server.url);
    try {
      await loadPgtap(database.url, pgtapPath);
      const results: FileResult[] = [];
      for (const file of files) results.push(await runFile(database.url, file));
      return results;
    } finally {
      await database.drop();
    }
  } finally {
    await server?.stop();
  }
}

async function loadPgtap(url: string, path: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const script = readFileSync(path, 'utf8').replace(/^\\.*$/gm, '');
    await client.query(`set search_path = extensions; ${script}`);
  } finally {
    await client.end();
  }
}

async function runFile(url: string, file: string): Promise<FileResult> {
  const sql = readFileSync(join(folder, file), 'utf8')
    .replace(/^\\ir (.*)$/m, (_include, name: string) => readFileSync(join(folder, name), 'utf8'))
    .replace(/^create extension if not exists pgtap.*$/m, '');
  const client = new pg.Client({ connectionString: url, options: '-c search_path=public,extensions' });
  await client.connect();
  const output: string[] = [];
  const failure = await new Promise<string>((resolve) => {
    const query = new pg.Query<Record<string, unknown>>(sql);
    query.on('row', (row) => {
      for (const cell of Object.values(row)) {
        if (typeof cell === 'string') output.push(...cell.split('\n'));
      }
    });
    query.on('error', (error: Error) => resolve(error.message));
    query.on('end', () => resolve(''));
    client.query(query);
  });
  await client.end();
  return { file, ...parseTap(output, failure) };
}

function parseTap(output: readonly string[], failure: string): { lines: TapLine[]; failure: string } {
  const lines: { passed: boolean; description: string; diagnostics: string }[] = [];
  let planned: number | undefined;
  for (const line of output) {
    const result = /^(not )?ok (\d+)(?: - (.*))?$/.exec(line);
    const plan = /^1\.\.(\d+)$/.exec(line);
    const last = lines.at(-1);
    if (result !== null) {
      lines.push({
        passed: result[1] === undefined,
        description: `${result[2]}: ${result[3] ?? ''}`,
        diagnostics: '',
      });
    } else if (plan !== null) {
      planned = Number(plan[1]);
    } else if (line.startsWith('#') && last !== undefined) {
      last.diagnostics += `${line}\n`;
    }
  }
  const shortfall =
    planned === lines.length ? '' : `planned ${planned ?? 'nothing'}, ran ${lines.length} tests`;
  return { lines, failure: failure || shortfall };
}
