/**
 * `fencepost warm URL`: fills the cache before people ask. Only the readers know how to load an answer and under which fences to
 * store it, so it sends requests to them and writes nothing itself.
 */
import { readWarmingConfiguration } from '../lib/config.ts';
import { ExitCode } from '../lib/errors.ts';
import { duration } from '../lib/text.ts';
import { parseTemplate, readRows, type Source } from '../warming/addresses.ts';
import { request, sendAll } from '../warming/requests.ts';
import { conclude } from '../warming/results.ts';
import { useEmbeddedStack } from './embedded-stack.ts';
import { paint, print, printJson, table } from './output.ts';

export type WarmOptions = Source & { readonly concurrency: number; readonly timeoutSeconds: number };

/** @throws WorkerError INVALID_TEMPLATE, CONFIGURATION, ROWS_REFUSED, WARMING_FAILED or one of the database */
export async function warm(variables: NodeJS.ProcessEnv, text: string, options: WarmOptions, json: boolean) {
  const { columns, shown: url, fill } = parseTemplate(text, options);
  // An address without a column needs no row, hence no database.
  if (columns.length > 0) await useEmbeddedStack(variables, process.cwd());
  const { databaseUrl, token } = readWarmingConfiguration(variables, columns.length > 0);
  const { rows, notes } = await readRows(databaseUrl, options, columns);
  const filled = rows.map(fill).filter((pair) => pair !== null);
  const addresses = new Map(filled);
  if (!json) print(`Asking ${addresses.size} addresses, ${options.concurrency} at a time: ${url}`);
  const startedAt = performance.now();
  const send = (url: string, stop: AbortSignal) => request(url, token, options.timeoutSeconds * 1_000, stop);
  const { counts, error } = conclude(await sendAll(addresses, options.concurrency, send));
  const durationMs = Math.round(performance.now() - startedAt);
  const { asked, answered, xCache, absent, failed, examples } = counts;
  if (answered > 0 && answered === xCache.other) notes.push('No answer says x-cache: it may not be cached.');
  const skipped = rows.length - filled.length;
  const lines = [
    ['asked', asked, `in ${duration(durationMs)}${asked < addresses.size ? ', and stopped' : ''}`],
    [paint('ok', 'loaded'), xCache.MISS, 'now, and stored (x-cache: MISS)'],
    [paint('ok', 'cached'), xCache.HIT, 'already (HIT)'],
    [paint('ok', 'stale'), xCache.STALE, 'answered with an old one, which is loaded again meanwhile (STALE)'],
    [paint('warn', 'unmarked'), xCache.other, 'answered without saying whether a cache was asked'],
    [paint('ok', 'absent'), absent, 'of these say that there is nothing (404)'],
    [paint('warn', 'skipped'), skipped, 'rows with NULL in a column, or with a path segment . or ..'],
    ...Object.entries(failed).map(([failure, count]) => [paint('fail', 'failed'), count, failure]),
    ...examples.map((example) => ['', '', `${example.failure}: ${example.url}`]),
    ...notes.map((note) => [paint('warn', 'note'), '', note]),
  ];
  if (json) printJson({ url, addresses: addresses.size, ...counts, skipped, notes, durationMs });
  else print(table(lines.filter(([, count]) => count !== 0).map((line) => line.map(String))));
  if (error) throw error;
  return ExitCode.ok;
}
