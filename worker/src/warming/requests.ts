/** The requests of `fencepost warm`. Redirects are not followed, since the token is for this host. */
import { setTimeout as pause } from 'node:timers/promises';
import { errorCode } from '../db/errors.ts';
import { describe } from '../lib/errors.ts';
import { type Outcome, stoppedBy } from './results.ts';

/** Throttling, a restart, a cache that was away (the next read bypasses it too), a kept-alive connection just closed. */
const PASSING = /^(?:HTTP (?:429|502|503)|x-cache: BYPASS|ECONNRESET|EPIPE|UND_ERR_SOCKET)$/;
/** A longer `retry-after` is not waited for. */
const PAUSE_MOST_MS = 30_000;

type Send = (url: string, stop: AbortSignal) => Promise<Outcome>;

/** Sends a request to each address until all are done or it is no use. What is still open then is not counted. */
export async function sendAll(addresses: ReadonlyMap<string, string>, concurrency: number, send: Send) {
  const outcomes: (Outcome & { readonly url: string })[] = [];
  const stop = new AbortController();
  // One iterator for all, so each address is taken once.
  const remaining = addresses.entries();
  const sendNext = async () => {
    for (const [address, url] of remaining) {
      const outcome = await send(address, stop.signal);
      if (stop.signal.aborted) return;
      outcomes.push({ ...outcome, url });
      if (stoppedBy(outcomes)) stop.abort();
    }
  };
  await Promise.all(Array.from({ length: concurrency }, sendNext));
  return outcomes;
}

/** The outcome of the last attempt, of three at most. The pauses are 1 s and 2 s, unless `retry-after` says otherwise. */
export async function request(url: string, token: string | undefined, timeoutMs: number, stop: AbortSignal) {
  // Supabase's new keys are no JWTs: they are accepted in `apikey` alone.
  const credentials = token?.startsWith('sb_') ? { apikey: token } : { authorization: `Bearer ${token}` };
  const headers = { 'user-agent': 'fencepost-warm', ...(token && credentials) };
  for (let attempt = 1; ; attempt++) {
    const signal = AbortSignal.any([stop, AbortSignal.timeout(timeoutMs)]);
    const response = fetch(url, { headers, redirect: 'manual', signal });
    const outcome = await response.then(outcomeOf).catch(failureOf);
    const { failure = '', retryAfterMs = attempt * 1_000 } = outcome;
    if (attempt === 3 || !PASSING.test(failure) || retryAfterMs > PAUSE_MOST_MS) return outcome;
    // A signal for each pause, since Node warns of more than ten listeners on one.
    await pause(retryAfterMs, undefined, { signal: AbortSignal.any([stop]) }).catch(() => undefined);
  }
}

async function outcomeOf({ ok, status, headers, body }: Response): Promise<Outcome> {
  // Read to its end, so that the connection can serve the next request.
  await body?.pipeTo(new WritableStream());
  const xCache = headers.get('x-cache');
  const origin = (['MISS', 'HIT', 'STALE'] as const).find((known) => known === xCache) ?? 'other';
  // A 404 that no cache had a part in is a wrong address.
  const absent = status === 404 && (origin !== 'other' || xCache === 'BYPASS');
  if (ok || absent) return xCache === 'BYPASS' ? { failure: 'x-cache: BYPASS' } : { origin, absent };
  const after = headers.get('retry-after')?.trim() ?? '';
  const retryAfterMs = /^\d+$/.test(after) ? Number(after) * 1_000 : Date.parse(after) - Date.now();
  return { failure: `HTTP ${status}`, ...(!Number.isNaN(retryAfterMs) && { retryAfterMs }) };
}

/** The words of fetch are the same for every failure of the network; its cause tells more. */
function failureOf(error: Error): Outcome {
  const failure = errorCode(error) || describe(error.cause ?? error);
  return { failure: error.name === 'TimeoutError' ? 'timeout' : failure };
}
