/**
 * The requests of `fencepost warm`: a GET with the caller's token, whose body is read and dropped. Redirects are not followed,
 * since the token is for this host.
 */
import { setMaxListeners } from 'node:events';
import { setTimeout as pause } from 'node:timers/promises';
import { errorCode } from '../db/errors.ts';
import { describe } from '../lib/errors.ts';
import { type Outcome, Results } from './results.ts';

/** Milliseconds before the second and third attempt, unless the answer's `retry-after` says otherwise. */
const PAUSES_MS = [1_000, 2_000];
/** A longer `retry-after` is not waited for. */
const PAUSE_MOST_MS = 30_000;
/** Throttling, a restart, a cache that was away (the next read bypasses it too), a kept-alive connection just closed. */
const PASSING = /^(?:HTTP (?:429|502|503)|x-cache: BYPASS|ECONNRESET|EPIPE|UND_ERR_SOCKET)$/;

/**
 * Sends a request to each address until all are done or the results say stop; what is still open then is not counted.
 * @param send rejects only when its signal ends it
 */
export async function sendAll(
  addresses: Iterable<string>,
  concurrency: number,
  send: (address: string, signal: AbortSignal) => Promise<Outcome>,
  show: (address: string) => string,
  results = new Results(),
): Promise<Results> {
  const stop = new AbortController();
  setMaxListeners(0, stop.signal);
  // One iterator for all, so each address is taken once.
  const remaining = [...addresses].values();
  const sendNext = async () => {
    for (const address of remaining) {
      const outcome = await send(address, stop.signal);
      if (stop.signal.aborted) return;
      results.add(outcome, show(address));
      if (results.stoppedBy !== undefined) stop.abort();
    }
  };
  await Promise.all(Array.from({ length: concurrency }, sendNext)).catch((error) => {
    if (!stop.signal.aborted) throw error;
  });
  return results;
}

/** @returns the outcome of the last attempt, of three at most */
export async function request(
  url: string,
  token: string | undefined,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Outcome> {
  const headers = { 'user-agent': 'fencepost-warm', ...credentials(token) };
  for (let attempt = 0; ; attempt++) {
    const timeout = AbortSignal.timeout(timeoutMs);
    let outcome: Outcome;
    let pauseMs = PAUSES_MS[attempt];
    try {
      const response = await fetch(url, {
        headers,
        redirect: 'manual',
        signal: AbortSignal.any([signal, timeout]),
      });
      // Read to its end, so that the connection can serve the next request.
      await response.body?.pipeTo(new WritableStream());
      outcome = outcomeOf(response.status, response.headers.get('x-cache'));
      pauseMs &&= retryAfter(response.headers.get('retry-after'), Date.now()) ?? pauseMs;
    } catch (error) {
      if (signal.aborted) throw error;
      // The words of fetch are the same for every failure of the network; its cause tells more.
      const failure = errorCode(error) || describe(error instanceof Error ? (error.cause ?? error) : error);
      outcome = { failure: timeout.aborted ? 'timeout' : failure };
    }
    const passes = 'failure' in outcome && PASSING.test(outcome.failure);
    if (!passes || pauseMs === undefined || pauseMs > PAUSE_MOST_MS) return outcome;
    await pause(pauseMs, undefined, { signal });
  }
}

/** Supabase's new keys are no JWTs: they are accepted in `apikey` alone. */
export function credentials(token: string | undefined): Record<string, string> {
  if (token === undefined) return {};
  return token.startsWith('sb_') ? { apikey: token } : { authorization: `Bearer ${token}` };
}

/** @param xCache the answer's header `x-cache` */
export function outcomeOf(status: number, xCache: string | null): Outcome {
  const origin = (['MISS', 'HIT', 'STALE'] as const).find((known) => known === xCache) ?? 'other';
  // A 404 that no cache had a part in is a wrong address.
  const absent = status === 404 && (origin !== 'other' || xCache === 'BYPASS');
  if (!absent && (status < 200 || status >= 300)) return { failure: `HTTP ${status}` };
  return xCache === 'BYPASS' ? { failure: 'x-cache: BYPASS' } : { origin, absent };
}

/** @returns milliseconds from now; undefined where the header is missing or says nothing */
export function retryAfter(header: string | null, now: number): number | undefined {
  const text = header?.trim() ?? '';
  const ms = /^\d+$/.test(text) ? Number(text) * 1_000 : Date.parse(text) - now;
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}
