/**
 * `fencepost warm URL`: fills the cache before people ask. Only the readers know how to load an answer and under which fences to
 * store it, so it sends requests to them and writes nothing itself.
 */
import { readWarmingConfiguration } from '../lib/config.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';
import { duration } from '../lib/text.ts';
import { request, sendAll } from '../warming/requests.ts';
import { Results } from '../warming/results.ts';
import { readRows, type Source } from '../warming/rows.ts';
import { invalidTemplate, parseTemplate, type Row } from '../warming/template.ts';
import { paint, print, printJson, type Tone, table } from './output.ts';

export interface WarmOptions {
  /** Where the placeholders' values come from: one of the two, or none for an address without placeholders. */
  readonly table?: string;
  readonly rows?: string;
  readonly limit: number;
  readonly concurrency: number;
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
  const source = sourceOf(template.columns, options);
  const { databaseUrl, token } = readWarmingConfiguration(variables, source !== undefined);
  const results = new Results();
  results.url = template.show();
  const { notes } = results;
  let rows: Row[] = [[]];
  if (source !== undefined && databaseUrl !== undefined) {
    const read = await readRows(databaseUrl, source, template.columns, limit + 1);
    rows = read.rows.slice(0, limit);
    if (read.rows.length > limit) notes.push(`Only the first ${limit} rows were read: --limit raises it.`);
    if (!read.workerLeads) notes.push(NO_WORKER);
  }
  if (rows.length === 0) notes.push('There is no row, so no request was sent.');
  const filled = rows.map((row) => [template.fill(row), row] as const);
  const addresses = new Map(filled.filter((pair): pair is [string, Row] => pair[0] !== null));
  results.skipped = filled.filter(([address]) => address === null).length;
  results.addresses = addresses.size;
  const count = addresses.size === 1 ? 'one address' : `${addresses.size} addresses`;
  if (!json) print(`Asking ${count}, ${concurrency} at a time: ${results.url}`);

  const startedAt = performance.now();
  await sendAll(
    addresses.keys(),
    concurrency,
    (address, signal) => request(address, token, timeoutSeconds * 1_000, signal),
    (address) => template.show(addresses.get(address)),
    results,
  );
  results.durationMs = Math.round(performance.now() - startedAt);
  if (results.answered > 0 && results.xCache.other === results.answered) notes.push(NO_CACHE);
  if (json) printJson(results);
  else show(results);
  if (results.exitCode === ExitCode.ok) return ExitCode.ok;
  const advice = results.advice(template.origin, token !== undefined, timeoutSeconds);
  throw new WorkerError('WARMING_FAILED', advice, { exitCode: results.exitCode });
}

const NO_WORKER =
  'No worker leads this database. What is stored without one is not used once it starts: start it, and warm again.';
const NO_CACHE = 'No answer says x-cache: whether this address is read through the cache is not known.';

/** @throws WorkerError INVALID_TEMPLATE */
function sourceOf(columns: readonly string[], { table: name, rows: query }: WarmOptions): Source | undefined {
  const sources = [
    ...(name === undefined ? [] : [{ table: name }]),
    ...(query === undefined ? [] : [{ query }]),
  ];
  if (columns.length === 0 && sources.length > 0)
    throw invalidTemplate('It has no {column} that rows could fill: put one into it, or leave the rows out.');
  const placeholders = columns.map((column) => `{${column}}`).join(' and ');
  if (columns.length > 0 && sources.length !== 1)
    throw invalidTemplate(
      `Say where the values of ${placeholders} come from: either --table public.products or --rows "select …".`,
    );
  return sources[0];
}

function show({ xCache, failed, examples, notes, ...results }: Results): void {
  const stopped = results.asked < results.addresses ? ', and stopped' : '';
  const counts: readonly [number, Tone, string, string][] = [
    [xCache.MISS, 'ok', 'loaded', 'now, and stored (x-cache: MISS)'],
    [xCache.HIT, 'ok', 'cached', 'already (HIT)'],
    [xCache.STALE, 'ok', 'stale', 'answered with an old one, which is loaded again meanwhile (STALE)'],
    [xCache.other, 'warn', 'unmarked', 'answered without saying whether a cache was asked'],
    [results.absent, 'ok', 'absent', 'of these say that there is nothing (404)'],
    [results.skipped, 'warn', 'skipped', 'rows with NULL in a column, or with a path segment . or ..'],
  ];
  print(
    table([
      ['asked', String(results.asked), `in ${duration(results.durationMs)}${stopped}`],
      ...counts.filter(([n]) => n > 0).map(([n, tone, name, words]) => [paint(tone, name), String(n), words]),
      ...Object.entries(failed).flatMap(([failure, n]) => [
        [paint('fail', 'failed'), String(n), failure],
        ...examples.filter((example) => example.failure === failure).map(({ url }) => ['', '', url]),
      ]),
      ...notes.map((note) => [paint('warn', 'note'), '', note]),
    ]),
  );
}
