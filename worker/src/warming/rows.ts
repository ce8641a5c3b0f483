/**
 * Reads the rows of `fencepost warm` in one read-only transaction that ends before the first request, since an open one
 * holds back vacuum. The query becomes a subquery, so it can be nothing else; every value arrives as text, in UTC.
 */
import pg from 'pg';
import { errorCode, explainDatabaseError } from '../db/errors.ts';
import { lockHolders } from '../db/lock-holders.ts';
import { clientOptions } from '../db/pool.ts';
import { describe, ExitCode, WorkerError } from '../lib/errors.ts';
import type { Row } from './template.ts';

/** Reading a whole table takes longer than the worker's own statements may. */
const STATEMENT_TIMEOUT_MS = 60_000;

export type Source = { readonly table: string } | { readonly query: string };

/** @throws WorkerError ROWS_REFUSED; any other error of the database comes out explained */
export async function readRows(
  url: string,
  source: Source,
  columns: readonly string[],
  limit: number,
): Promise<{ readonly rows: Row[]; readonly workerLeads: boolean }> {
  const client = new pg.Client(clientOptions(url, 'warm', STATEMENT_TIMEOUT_MS + 5_000));
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query(`begin read only; set local statement_timeout = ${STATEMENT_TIMEOUT_MS};
      set local lock_timeout = 5000; set local datestyle = iso; set local timezone = 'UTC'`);
    const rows = await select(client, source, columns, limit);
    await client.query('rollback');
    const holders = await lockHolders(client);
    return { rows, workerLeads: holders.some(({ lock, granted }) => lock === 'leader' && granted) };
  } catch (error) {
    throw explainDatabaseError(error, url);
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function select(
  client: pg.Client,
  source: Source,
  columns: readonly string[],
  limit: number,
): Promise<Row[]> {
  const names = columns.map((column) => pg.escapeIdentifier(column));
  try {
    let query = 'query' in source ? source.query.replace(/[\s;]+$/, '') : '';
    if ('table' in source) {
      const { rows } = await client.query('select $1::text::regclass::text as name', [source.table]);
      query = `select distinct ${names} from ${rows[0].name}`;
    }
    const { rows } = await client.query<(string | null)[]>({
      // The line break ends a comment at the query's end; the extended protocol takes exactly one statement.
      text: `select ${names.map((name) => `"rows".${name}::text`)} from (\n${query}\n) as "rows" limit ${limit}`,
      rowMode: 'array',
      queryMode: 'extended',
    } as pg.QueryArrayConfig);
    return rows;
  } catch (error) {
    throw refusal(error, 'table' in source);
  }
}

/** Classes of errors that are the statement's own: its text, its names, its data, and that it would write. */
const AT_FAULT = /^(?:0A|20|21|22|25|2F|3F|42|P0|57014|55P03)/;
const REMEDIES: Readonly<Record<string, string>> = {
  '42703': ' Each placeholder is a column of --table or of --rows.',
  '42P01': ' Name the table with its schema: --table public.products.',
  '42601': ' --rows is one SELECT, such as "select distinct id from public.products".',
  '25006': ' --rows is a SELECT that writes nothing.',
  '42501': ` The worker’s own role reads no tables. Connect as a role that reads this one: DATABASE_URL=… npx fencepost warm …`,
  '57014': ' It took longer than 60 s: ask for fewer rows with --rows "select … limit …".',
  '55P03': ' Somebody holds a lock on the table: try again.',
};

function refusal(error: unknown, isTable: boolean): unknown {
  // The text of --table is only a name, so its syntax errors are errors in that name.
  const code = errorCode(error).replace(isTable ? '42601' : '', isTable ? '42P01' : '');
  if (!AT_FAULT.test(code)) return error;
  const text = `These rows cannot be read: ${describe(error).replace(/\.$/, '')}.${REMEDIES[code] ?? ''}`;
  const exitCode =
    code === '42501' ? ExitCode.denied : /^5/.test(code) ? ExitCode.unavailable : ExitCode.usage;
  return new WorkerError('ROWS_REFUSED', text, { exitCode, cause: error });
}
