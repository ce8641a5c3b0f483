/**
 * The rows that fill the address of `fencepost warm`, read in one read-only transaction that is over before the first
 * question: an open one would hold back vacuum for as long as the readers take. So they are read up to a limit. The statement
 * is a subquery of ours: it can be nothing but a query, and each value comes out as Postgres writes it as text, in UTC.
 */
import pg from 'pg';
import { errorCode, explainDatabaseError } from '../db/errors.ts';
import { lockHolders } from '../db/lock-holders.ts';
import { clientOptions } from '../db/pool.ts';
import { describe, ExitCode, WorkerError } from '../lib/errors.ts';
import type { Row } from './template.ts';

/** A table that is read whole takes its time. */
const STATEMENT_TIMEOUT_MS = 60_000;
const LOCK_TIMEOUT_MS = 5_000;

/** Exactly one of them. */
export type Source = { readonly table: string } | { readonly rows: string };

export interface Rows {
  readonly rows: readonly Row[];
  /** Whether there are more than the limit. */
  readonly more: boolean;
  /** Whether any session leads the workers of this database. */
  readonly workerLeads: boolean;
}

/**
 * @param limit rows that are read at most
 * @throws WorkerError ROWS_REFUSED; any other error of the database comes out explained
 */
export async function readRows(
  url: string,
  source: Source,
  columns: readonly string[],
  limit: number,
): Promise<Rows> {
  const client = new pg.Client(clientOptions(url, 'warm', STATEMENT_TIMEOUT_MS + 5_000));
  client.on('error', () => undefined);
  try {
    await client.connect();
    await client.query('begin read only');
    await client.query(
      `set local statement_timeout = ${STATEMENT_TIMEOUT_MS}; set local lock_timeout = ${LOCK_TIMEOUT_MS};
       set local datestyle = iso; set local timezone = 'UTC'`,
    );
    const rows = await query(client, source, columns, limit + 1);
    await client.query('rollback');
    const workerLeads = (await lockHolders(client)).some(({ lock, granted }) => lock === 'leader' && granted);
    return { rows: rows.slice(0, limit), more: rows.length > limit, workerLeads };
  } catch (error) {
    throw explainDatabaseError(error, url);
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function query(
  client: pg.Client,
  source: Source,
  columns: readonly string[],
  most: number,
): Promise<Row[]> {
  const names = columns.map((column) => pg.escapeIdentifier(column));
  try {
    const statement =
      'rows' in source
        ? source.rows.replace(/[\s;]+$/, '')
        : `select distinct ${names.join(', ')} from ${await nameOf(client, source.table)}`;
    const { rows } = await client.query<(string | null)[]>({
      // The line break ends a comment that the statement may end with.
      text: `select ${names.map((name) => `"rows".${name}::text`).join(', ')} from (\n${statement}\n) as "rows" limit ${most}`,
      rowMode: 'array',
      // Takes exactly one statement, so that nothing can end the transaction.
      queryMode: 'extended',
    } as pg.QueryArrayConfig);
    return rows;
  } catch (error) {
    throw refusal(error, source);
  }
}

/** The table's name as SQL has to write it. */
async function nameOf(client: pg.Client, table: string): Promise<string> {
  const { rows } = await client.query<{ name: string }>('select $1::text::regclass::text as name', [table]);
  return rows[0]?.name ?? '';
}

/** Classes of what is the statement's own fault: its text, its names, its data, and that it would write. */
const AT_FAULT = /^(?:0A|20|21|22|25|2F|3F|42|P0)/;
const PRIVILEGE = '42501';
const NO_TABLE = '42P01';
const SYNTAX = '42601';
const REMEDIES: Readonly<Record<string, string>> = {
  // No such column, no such table.
  '42703': 'Each placeholder is a column of --table or of --rows.',
  [NO_TABLE]: 'Name the table with its schema: --table public.model_prices.',
  [SYNTAX]: '--rows is one SELECT, such as "select distinct provider, model from public.model_prices".',
  '25006': '--rows is a SELECT that writes nothing.',
  [PRIVILEGE]:
    'The worker’s own role reads no tables. Connect as a role that reads this one, such as its owner: DATABASE_URL=… npx fencepost warm …',
  // Statement and lock timeout.
  '57014': `It took longer than ${STATEMENT_TIMEOUT_MS / 1_000} s: ask for fewer rows with --rows "select … limit …".`,
  '55P03': 'Somebody holds a lock on the table: try again.',
};

/** What Postgres said, with a remedy, if the rows are at fault; anything else is for the caller to explain. */
function refusal(error: unknown, source: Source): unknown {
  const code = errorCode(error);
  // The text of --table is nothing but a name, so a syntax error is in that.
  const remedy = REMEDIES['table' in source && code === SYNTAX ? NO_TABLE : code];
  if (remedy === undefined && !AT_FAULT.test(code)) return error;
  const exitCode =
    code === PRIVILEGE ? ExitCode.denied : /^5/.test(code) ? ExitCode.unavailable : ExitCode.usage;
  const message = describe(error).replace(/\.$/, '');
  return new WorkerError(
    'ROWS_REFUSED',
    `These rows cannot be read: ${message}.${remedy === undefined ? '' : ` ${remedy}`}`,
    {
      exitCode,
      cause: error,
    },
  );
}
