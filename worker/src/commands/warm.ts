/**
 * `fencepost warm URL-TEMPLATE`: fills the cache before people ask. Only the readers know how to load an answer and under which
 * fences to store it, so warming means asking them; nothing is written here. Run it after a deployment or a new epoch, with
 * the worker running.
 */
import { readWarmingConfiguration } from '../lib/config.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';
import { duration } from '../lib/text.ts';
import { failureOf } from '../warming/failure.ts';
import { askAll } from '../warming/pool.ts';
import { ask } from '../warming/request.ts';
import type { Example, Origin } from '../warming/results.ts';
import { readRows, type Source } from '../warming/rows.ts';
import { fill, parseTemplate, type Row, show, showTemplate, type Template } from '../warming/template.ts';
import { paint, print, printJson, table } from './output.ts';

export interface WarmOptions {
  /** Where the placeholders' values come from; neither for an address without placeholders. */
  readonly table?: string;
  readonly rows?: string;
  /** Rows that are read at most. */
  readonly limit: number;
  readonly concurrency: number;
  /** Seconds that one request may take. */
  readonly timeoutSeconds: number;
}

export interface Warmed {
  /** The template, without the values that its query gives itself. */
  readonly url: string;
  /** Distinct ones, made of the rows. */
  readonly addresses: number;
  readonly asked: number;
  readonly answered: number;
  readonly xCache: Readonly<Record<Origin, number>>;
  /** Of the answered: 404, and the cache had a part in it. */
  readonly absent: number;
  readonly failed: Readonly<Record<string, number>>;
  readonly examples: readonly Example[];
  /** Rows that make no address: a value is NULL, or would be a path segment `.` or `..`. */
  readonly skipped: number;
  /** What makes it less than it looks. */
  readonly notes: readonly string[];
  readonly durationMs: number;
}

/** @throws WorkerError INVALID_TEMPLATE, CONFIGURATION, ROWS_REFUSED, WARMING_FAILED or one of the database */
export async function warm(
  variables: NodeJS.ProcessEnv,
  text: string,
  options: WarmOptions,
  json: boolean,
): Promise<ExitCode> {
  const template = parseTemplate(text);
  const source = sourceOf(template, options);
  const { databaseUrl, token } = readWarmingConfiguration(variables, source !== undefined);
  const notes: string[] = [];
  let rows: readonly Row[] = [[]];
  if (source !== undefined && databaseUrl !== undefined) {
    const read = await readRows(databaseUrl, source, template.columns, options.limit);
    rows = read.rows;
    if (read.more) notes.push(`Only the first ${options.limit} rows were read: --limit raises it.`);
    if (!read.workerLeads) {
      notes.push(
        'No worker leads this database. What is stored without one is not used once it starts: start it, and warm again.',
      );
    }
  }
  if (rows.length === 0) notes.push('There is no row, so there was nothing to ask.');
  const addresses = new Map<string, Row>();
  let skipped = 0;
  for (const row of rows) {
    const address = fill(template, row);
    if (address === null) skipped += 1;
    else addresses.set(address, row);
  }
  const url = showTemplate(template);
  if (!json) {
    const many = addresses.size === 1 ? 'one address' : `${addresses.size} addresses`;
    print(`Asking ${many}, ${options.concurrency} at a time: ${url}`);
  }
  const startedAt = performance.now();
  const timeoutMs = options.timeoutSeconds * 1_000;
  const tally = await askAll(
    addresses.keys(),
    options.concurrency,
    (address, signal) => ask(address, { token, timeoutMs, signal }),
    (address) => show(template, addresses.get(address) ?? []),
  );
  if (tally.answered > 0 && tally.origins.other === tally.answered) {
    notes.push('No answer says x-cache: whether this address is read through the cache is not known.');
  }
  const warmed: Warmed = {
    url,
    addresses: addresses.size,
    asked: tally.asked,
    answered: tally.answered,
    xCache: tally.origins,
    absent: tally.absent,
    failed: Object.fromEntries(tally.failures),
    examples: tally.examples,
    skipped,
    notes,
    durationMs: Math.round(performance.now() - startedAt),
  };
  if (json) printJson(warmed);
  else print(table(lines(warmed)));
  if (tally.exitCode !== ExitCode.ok)
    throw failureOf(tally, template.origin, token !== undefined, options.timeoutSeconds);
  return ExitCode.ok;
}

/** @throws WorkerError INVALID_TEMPLATE */
function sourceOf({ columns }: Template, { table: name, rows }: WarmOptions): Source | undefined {
  const invalid = (message: string) =>
    new WorkerError('INVALID_TEMPLATE', message, { exitCode: ExitCode.usage });
  if (columns.length === 0) {
    if (name === undefined && rows === undefined) return undefined;
    throw invalid(
      'This address has no {column} that rows could fill: put one into it, or leave the rows out.',
    );
  }
  if (name !== undefined && rows === undefined) return { table: name };
  if (rows !== undefined && name === undefined) return { rows };
  throw invalid(
    `Say where the values of ${columns.map((column) => `{${column}}`).join(' and ')} come from: either --table public.model_prices or --rows "select …".`,
  );
}

function lines(warmed: Warmed): string[][] {
  const { xCache, absent, failed, examples, skipped, notes } = warmed;
  const counted: [number, 'ok' | 'warn', string, string][] = [
    [xCache.MISS, 'ok', 'loaded', 'now, and stored (x-cache: MISS)'],
    [xCache.HIT, 'ok', 'cached', 'already (HIT)'],
    [xCache.STALE, 'ok', 'stale', 'answered with an old one, which is loaded anew meanwhile (STALE)'],
    [xCache.other, 'warn', 'unmarked', 'answered without saying whether a cache was asked'],
    [absent, 'ok', 'absent', 'of these say that there is nothing (404)'],
    [skipped, 'warn', 'skipped', 'rows with NULL in a column, or with a path segment . or ..'],
  ];
  const stopped = warmed.asked < warmed.addresses ? ', and stopped' : '';
  return [
    ['asked', String(warmed.asked), `in ${duration(warmed.durationMs)}${stopped}`],
    ...counted.flatMap(([count, tone, name, text]) =>
      count === 0 ? [] : [[paint(tone, name), String(count), text]],
    ),
    ...Object.entries(failed).flatMap(([name, count]) => [
      [paint('fail', 'failed'), String(count), name],
      ...examples.filter(({ failure: of }) => of === name).map(({ url }) => ['', '', url]),
    ]),
    ...notes.map((note) => [paint('warn', 'note'), '', note]),
  ];
}
