/** What the requests of `fencepost warm` come to: when to stop, the counts, the exit code and what to do. Pure. */
import { describe, ExitCode, WorkerError } from '../lib/errors.ts';

/** `absent`: a 404 through the cache, an answer too. A failure has the same words for the same cause. */
export interface Outcome {
  readonly origin?: 'MISS' | 'HIT' | 'STALE' | 'other';
  readonly absent?: boolean;
  readonly failure?: string;
  readonly retryAfterMs?: number;
}

/** So many equal failures in a row end it. */
export const STOP_AFTER = 10;
const { denied, failed: single, unavailable: away } = ExitCode;
/** By the first pattern that matches: the exit code, `single` where other requests may do better, and the remedy. */
const CAUSES: readonly (readonly [RegExp, ExitCode, string])[] = [
  [/^HTTP 40[13]$/, denied, 'The caller is refused: set FENCEPOST_WARM_TOKEN to a secret key.'],
  [/^HTTP 404$/, single, 'Nothing is served at this path: correct it, or deploy the function.'],
  [/^HTTP 429$/, away, 'The functions are throttled: lower --concurrency, or try again later.'],
  [/^HTTP 50[234]$/, away, 'The functions are in trouble: health-check and their log say why.'],
  [/^HTTP /, single, 'See what curl is answered: does the address name each parameter, do the rows fit?'],
  [/^x-cache/, away, 'The functions go without their cache: health-check says why.'],
  [/^timeout$/, away, "No answer came in time: raise --timeout-seconds, or see the functions' log."],
];
const NETWORK = [/^/, away, 'Start the functions, or correct the address, http or https.'] as const;
const causeOf = (failure: string) => CAUSES.find(([pattern]) => pattern.test(failure)) ?? NETWORK;

/** The failure that every further request would end with. A refused row says nothing of others, nor a 403 once one was answered. */
export function stoppedBy(outcomes: readonly Outcome[]): string | undefined {
  const [failure = '', other] = new Set(outcomes.slice(-STOP_AFTER).map((outcome) => outcome.failure ?? ''));
  if (outcomes.length < STOP_AFTER || failure === '' || other !== undefined) return undefined;
  const isSingle = causeOf(failure)[1] === single || (failure === 'HTTP 403' && outcomes.length > STOP_AFTER);
  return isSingle ? undefined : failure;
}

/** The counts as `--json` prints them, and the error unless all was answered. */
export function conclude(outcomes: readonly (Outcome & { readonly url: string })[]) {
  const failures = outcomes.flatMap(({ failure, url }) => (failure ? [{ failure, url: describe(url) }] : []));
  const failed: Record<string, number> = {};
  for (const { failure } of failures) failed[failure] = (failed[failure] ?? 0) + 1;
  const xCache = { MISS: 0, HIT: 0, STALE: 0, other: 0 };
  for (const { origin } of outcomes) if (origin) xCache[origin]++;
  const asked = outcomes.length;
  const answered = asked - failures.length;
  const absent = outcomes.filter((outcome) => outcome.absent).length;
  const counts = { asked, answered, xCache, absent, failed, examples: failures.slice(0, 3) };

  const stopped = stoppedBy(outcomes);
  const causes = stopped ? [stopped] : Object.keys(failed);
  const [[, exitCode, remedy] = NETWORK, ...others] = causes.map(causeOf);
  const isOfAll = (stopped || answered === 0) && others.every(([, code]) => code === exitCode);
  const what = `${stopped ? 'Stopped: ' : ''}${failures.length} of ${asked} requests failed (${causes.join(', ')})`;
  const options = { exitCode: isOfAll ? exitCode : single };
  const error = new WorkerError('WARMING_FAILED', `${what}. ${remedy}`, options);
  return { counts, error: failures.length > 0 ? error : undefined };
}
