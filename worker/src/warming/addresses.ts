/** The addresses of `fencepost warm`: a URL template whose {column} placeholders are filled by rows of the database. */
import pg from 'pg';
import { explainDatabaseError } from '../db/errors.ts';
import { queryReadOnly, refusal } from '../db/foreign-statement.ts';
import { lockHolders } from '../db/lock-holders.ts';
import { clientOptions, withClient } from '../db/pool.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';

/** Where the rows come from: one of the two, or none for an address without placeholders. */
export type Source = { readonly table?: string; readonly rows?: string; readonly limit: number };
type Row = Readonly<Record<string, string | null>>;

const PLACEHOLDER = /\{([^{}]+)\}/g;
/** Scheme, host and port hold no placeholder: no row decides who gets the token. */
const ADDRESS = /^https?:\/\/[^{}@/?#\\]+(?:[/?](?:[^{}#]|\{[^{}]+\})*)?$/i;
/** A path segment `.` or `..`, plain or encoded. Every URL parser resolves it, so such a value cannot be sent. */
const DOT_SEGMENT = /^[^?]*\/(?:\.|%2e){1,2}(?:[/?]|$)/i;
/** In the query: text after a `=` and outside of braces, and a parameter without `=`. Either may be a secret. */
const QUERY_VALUE = /(?<=\?.*=[^&]*)[^&{}]+(?![^{}]*\})|(?<=\?(?:.*&)?)[^&=]+(?=&|$)/g;
const NO_ADDRESS = 'An address begins with http:// or https:// and a host; it has no user, password or #.';
const NO_ROWS = 'A URL with {column} takes either --table public.products or --rows "select …", others none.';

/** Reading a whole table takes longer than the worker's own statements may. */
const STATEMENT_TIMEOUT_MS = 60_000;
const REMEDIES = {
  '42703': 'Each placeholder is a column of --table or of --rows.',
  '42P01': 'Name the table with its schema: --table public.products.',
  '42501': 'The worker’s own role reads no tables: let DATABASE_URL be of one that reads this.',
  '57014': 'It took longer than 60 s: ask for fewer rows with --rows "select … limit …".',
};
const NO_WORKER = 'No worker leads this database. Start one and warm again: what is stored now is not used.';

/** @throws WorkerError INVALID_TEMPLATE */
export function parseTemplate(text: string, { table, rows }: Source) {
  const columns = [...new Set(Array.from(text.matchAll(PLACEHOLDER), ([, column = '']) => column))];
  if (!ADDRESS.test(text) || !URL.canParse(text.replace(PLACEHOLDER, 'x')))
    throw new WorkerError('INVALID_TEMPLATE', NO_ADDRESS, { exitCode: ExitCode.usage });
  if ([table, rows].filter((source) => source !== undefined).length !== Math.min(columns.length, 1))
    throw new WorkerError('INVALID_TEMPLATE', NO_ROWS, { exitCode: ExitCode.usage });
  // Percent-encoded, each value stays one.
  const fill = (template: string, row: Row) =>
    template.replace(PLACEHOLDER, (_, column: string) => encodeURIComponent(row[column] ?? ''));
  /** As it may be shown: without the values that its query gives itself. */
  const shown = text.replace(QUERY_VALUE, '…');
  return {
    columns,
    shown,
    /** A row's address, and that as it may be shown; null when a value is NULL or makes a path segment `.` or `..`. */
    fill(row: Row): [url: string, shown: string] | null {
      const url = fill(text, row);
      const isWhole = columns.every((column) => typeof row[column] === 'string');
      return isWhole && !DOT_SEGMENT.test(url) ? [url, fill(shown, row)] : null;
    },
  };
}

/** @throws WorkerError ROWS_REFUSED, or one that explains another error of the database */
export async function readRows(url: string | undefined, source: Source, columns: readonly string[]) {
  const notes: string[] = [];
  if (url === undefined) return { rows: [{}], notes };
  const names = columns.map((column) => pg.escapeIdentifier(column));
  const query = source.rows?.replace(/[\s;]+$/, '') ?? `select distinct ${names} from ${source.table}`;
  const values = names.map((name) => `"rows".${name}::text`);
  // As a subquery it can be nothing but a query; the line break ends a comment at its end.
  const text = `select ${values} from (\n${query}\n) as "rows" limit ${source.limit + 1}`;
  const refuse = (error: unknown) =>
    Promise.reject(refusal(error, 'ROWS_REFUSED', 'These rows cannot be read', REMEDIES));
  const read = async (client: pg.Client) => {
    const rows = await queryReadOnly<Row>(client, STATEMENT_TIMEOUT_MS, text).catch(refuse);
    const holders = await lockHolders(client);
    if (rows.length === 0) notes.push('There is no row, so no request was sent.');
    if (rows.length > source.limit) notes.push(`Only the first ${source.limit} rows are read: see --limit.`);
    if (!holders.some(({ lock, granted }) => lock === 'leader' && granted)) notes.push(NO_WORKER);
    return { rows: rows.slice(0, source.limit), notes };
  };
  return withClient(clientOptions(url, 'warm', STATEMENT_TIMEOUT_MS + 5_000), read).catch((error) => {
    throw explainDatabaseError(error, url);
  });
}
