/** Reads the rows of `fencepost warm`. No transaction is open once requests are sent: it would hold back vacuum. */
import pg from 'pg';
import { explainDatabaseError } from '../db/errors.ts';
import { queryReadOnly, refusal } from '../db/foreign-statement.ts';
import { lockHolders } from '../db/lock-holders.ts';
import { clientOptions } from '../db/pool.ts';
import type { Row } from './template.ts';

/** Reading a whole table takes longer than the worker's own statements may. */
const STATEMENT_TIMEOUT_MS = 60_000;
const NO_TABLE = 'Name the table with its schema: --table public.products.';
const REMEDIES = {
  '42703': 'Each placeholder is a column of --table or of --rows.',
  '42P01': NO_TABLE,
  '42601': '--rows is one SELECT, such as "select distinct id from public.products".',
  '25006': '--rows is a SELECT that writes nothing.',
  '42501':
    'The worker’s own role reads no tables. Connect as one that reads this: DATABASE_URL=… npx fencepost warm …',
  '57014': 'It took longer than 60 s: ask for fewer rows with --rows "select … limit …".',
  '55P03': 'Somebody holds a lock on the table: try again.',
};

export type Source = { readonly table: string } | { readonly query: string };

/** @throws WorkerError ROWS_REFUSED, or one that explains another error of the database */
export async function readRows(url: string, source: Source, columns: readonly string[], limit: number) {
  const client = new pg.Client(clientOptions(url, 'warm', STATEMENT_TIMEOUT_MS + 5_000));
  client.on('error', () => undefined);
  const names = columns.map((column) => pg.escapeIdentifier(column));
  const select = async (): Promise<Row[]> => {
    let query = 'query' in source ? source.query.replace(/[\s;]+$/, '') : '';
    if ('table' in source) {
      const { rows } = await client.query('select $1::text::regclass::text as name', [source.table]);
      query = `select distinct ${names} from ${rows[0].name}`;
    }
    // As a subquery it can be nothing but a query; the line break ends a comment at its end.
    const text = `select array[${names.map((name) => `"rows".${name}::text`)}] as row from (\n${query}\n) as "rows" limit ${limit}`;
    return (await queryReadOnly<{ row: Row }>(client, STATEMENT_TIMEOUT_MS, text)).map(({ row }) => row);
  };
  // The text of --table is only a name, so its syntax errors are errors in that name.
  const remedies = 'table' in source ? { ...REMEDIES, '42601': NO_TABLE } : REMEDIES;
  try {
    await client.connect();
    const rows = await select().catch((error) => {
      throw refusal(error, 'ROWS_REFUSED', 'These rows cannot be read', remedies);
    });
    const holders = await lockHolders(client);
    return { rows, workerLeads: holders.some(({ lock, granted }) => lock === 'leader' && granted) };
  } catch (error) {
    throw explainDatabaseError(error, url);
  } finally {
    await client.end().catch(() => undefined);
  }
}
