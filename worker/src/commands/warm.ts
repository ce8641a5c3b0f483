/**
 * `fencepost warm URL`: fills the cache before people ask. Only the readers know how to load an answer and under which
 * fences to store it, so it sends requests to them and writes nothing itself.
 */
import { readWarmingConfiguration } from '../lib/config.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';
import { duration } from '../lib/text.ts';
import { request, sendAll } from '../warming/requests.ts';
import type { Results } from '../warming/results.ts';
import { readRows, type Source } from '../warming/rows.ts';
import { invalidTemplate, parseTemplate, type Row, type UrlTemplate } from '../warming/template.ts';
import { paint, print, printJson, type Tone, table } from './output.ts';

export interface WarmOptions {
  /** Where the placeholders' values come from: one of the two, or none for an address without placeholders. */
  readonly table?: string;
  readonly rows?: string;
  /** Rows to read at most. */
  readonly limit: number;
  readonly concurrency: number;
  /** For one attempt of a request. */
  readonly timeoutSeconds: number;
}

/** @throws WorkerError INVALID_TEMPLATE, CONFIGURATION, ROWS_REFUSED, WARMING_FAILED or one of the database */
export async function warm(
  variables: NodeJS.ProcessEnv,
  text: string,
  options: WarmOptions,
  json: boolean,
): Promise<ExitCode> {
  const { limit, concurrency, timeoutSeconds } = options;
  const template = parseTemplate(text);
  const source = sourceOf(template, options);
  const { databaseUrl, token } = readWarmingConfiguration(variables, source !== undefined);
  const notes: string[] = [];
  let rows: Row[] = [[]];
  if (source !== undefined && databaseUrl !== undefined) {
    const read = await readRows(databaseUrl, source, template.columns, limit + 1);
    rows = read.rows.slice(0, limit);
    if (read.rows.length > limit) notes.push(`Only the first ${limit} rows were read: --limit raises it.`);
    if (!read.workerLeads)
      notes.push(
        'No worker leads this database. What is stored without one is not used once it starts: start it, and warm again.',
      );
  }
  if (rows.length === 0) notes.push('There is no row, so no request was sent.');
  const addresses = new Map<string, Row>();
  let skipped = 0;
  for (const row of rows) {
    const address = template.fill(row);
    if (address === null) skipped++;
    else addresses.set(address, row);
  }
  const count = addresses.size === 1 ? 'one address' : `${addresses.size} addresses`;
  if (!json) print(`Asking ${count}, ${concurrency} at a time: ${template.show()}`);

  const startedAt = performance.now();
  const results = await sendAll(
    addresses.keys(),
    concurrency,
    (address, signal) => request(address, token, timeoutSeconds * 1_000, signal),
    (address) => template.show(addresses.get(address)),
  );
  const { asked, answered, xCache, absent, failed, examples } = results;
  if (answered > 0 && xCache.other === answered)
    notes.push('No answer says x-cache: whether this address is read through the cache is not known.');
  const counts = { addresses: addresses.size, asked, answered, xCache, absent, failed, examples, skipped };
  const durationMs = Math.round(performance.now() - startedAt);
  const warmed = { url: template.show(), ...counts, notes, durationMs };
  if (json) printJson(warmed);
  else show(warmed);
  if (results.exitCode === ExitCode.ok) return ExitCode.ok;
  const advice = results.advice(template.origin, token !== undefined, timeoutSeconds);
  throw new WorkerError('WARMING_FAILED', advice, { exitCode: results.exitCode });
}

/** @throws WorkerError INVALID_TEMPLATE */
function sourceOf({ columns }: UrlTemplate, { table: name, rows: query }: WarmOptions): Source | undefined {
  if (columns.length === 0 && name === undefined && query === undefined) return undefined;
  if (columns.length === 0)
    throw invalidTemplate('It has no {column} that rows could fill: put one into it, or leave the rows out.');
  if (name !== undefined && query === undefined) return { table: name };
  if (query !== undefined && name === undefined) return { query };
  const placeholders = columns.map((column) => `{${column}}`).join(' and ');
  throw invalidTemplate(
    `Say where the values of ${placeholders} come from: either --table public.products or --rows "select …".`,
  );
}

/** What `--json` prints. */
export interface Warmed
  extends Pick<Results, 'asked' | 'answered' | 'xCache' | 'absent' | 'failed' | 'examples'> {
  /** The template without the values that its query gives itself. */
  readonly url: string;
  /** Distinct ones, made of the rows. */
  readonly addresses: number;
  /** Rows that make no address. */
  readonly skipped: number;
  readonly notes: readonly string[];
  readonly durationMs: number;
}

function show({ xCache, failed, examples, notes, ...warmed }: Warmed): void {
  const stopped = warmed.asked < warmed.addresses ? ', and stopped' : '';
  const row = (count: number, tone: Tone, name: string, text: string) =>
    count === 0 ? [] : [[paint(tone, name), String(count), text]];
  print(
    table([
      ['asked', String(warmed.asked), `in ${duration(warmed.durationMs)}${stopped}`],
      ...row(xCache.MISS, 'ok', 'loaded', 'now, and stored (x-cache: MISS)'),
      ...row(xCache.HIT, 'ok', 'cached', 'already (HIT)'),
      ...row(
        xCache.STALE,
        'ok',
        'stale',
        'answered with an old one, which is loaded again meanwhile (STALE)',
      ),
      ...row(xCache.other, 'warn', 'unmarked', 'answered without saying whether a cache was asked'),
      ...row(warmed.absent, 'ok', 'absent', 'of these say that there is nothing (404)'),
      ...row(warmed.skipped, 'warn', 'skipped', 'rows with NULL in a column, or with a path segment . or ..'),
      ...Object.entries(failed).flatMap(([failure, count]) => [
        ...row(count, 'fail', 'failed', failure),
        ...examples.filter((example) => example.failure === failure).map(({ url }) => ['', '', url]),
      ]),
      ...notes.map((note) => [paint('warn', 'note'), '', note]),
    ]),
  );
}
