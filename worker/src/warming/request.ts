/**
 * One question to a reader, as `fencepost warm` asks it: a GET with the caller's token, whose answer is read to its end and
 * dropped. What may pass is asked again, a bounded number of times. Redirects are not followed: the token is for this host.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { errorCode } from '../db/errors.ts';
import { describe } from '../lib/errors.ts';
import type { Outcome } from './results.ts';

/** Milliseconds before the second and the third attempt, where the answer names no time of its own. */
const PAUSES_MS = [1_000, 2_000];
/** A `retry-after` of more milliseconds is not waited for. */
const PAUSE_MOST_MS = 30_000;

/**
 * What passes by itself: throttling, a restart, a kept-alive connection that was just closed, a cache that was away (the read
 * after it is back bypasses it once more).
 */
const PASSES = new Set([
  'HTTP 429',
  'HTTP 502',
  'HTTP 503',
  'x-cache: BYPASS',
  'ECONNRESET',
  'EPIPE',
  'UND_ERR_SOCKET',
]);

interface Attempt {
  readonly outcome: Outcome;
  readonly retryAfterMs: number | undefined;
}

export interface Asking {
  readonly token: string | undefined;
  /** Milliseconds that one attempt may take, its body included. */
  readonly timeoutMs: number;
  /** Ends it all; what it interrupts is rejected. */
  readonly signal: AbortSignal;
}

/** @returns the outcome of the last attempt */
export async function ask(url: string, asking: Asking): Promise<Outcome> {
  for (let attempt = 0; ; attempt++) {
    const { outcome, retryAfterMs } = await askOnce(url, asking);
    const next = retryAfterMs ?? PAUSES_MS[attempt];
    const passes = 'failure' in outcome && PASSES.has(outcome.failure);
    if (!passes || attempt === PAUSES_MS.length || next === undefined || next > PAUSE_MOST_MS) return outcome;
    await pause(next, undefined, { signal: asking.signal });
  }
}

async function askOnce(url: string, { token, timeoutMs, signal }: Asking): Promise<Attempt> {
  const timeout = AbortSignal.timeout(timeoutMs);
  try {
    const response = await fetch(url, {
      headers: { 'user-agent': 'fencepost-warm', ...credentials(token) },
      redirect: 'manual',
      signal: AbortSignal.any([signal, timeout]),
    });
    // Read to the end, so that the connection can serve the next one; kept by nobody.
    await response.body?.pipeTo(new WritableStream());
    return {
      outcome: outcomeOf(response.status, response.headers.get('x-cache')),
      retryAfterMs: retryAfter(response.headers.get('retry-after'), Date.now()),
    };
  } catch (error) {
    if (signal.aborted) throw error;
    const failure = timeout.aborted ? 'timeout' : networkFailure(error);
    return { outcome: { failure }, retryAfterMs: undefined };
  }
}

/** The new keys are no JWTs: Supabase takes them in `apikey`, and nowhere else. */
export function credentials(token: string | undefined): Record<string, string> {
  if (token === undefined) return {};
  return token.startsWith('sb_') ? { apikey: token } : { authorization: `Bearer ${token}` };
}

/** @param cache the header `x-cache` */
export function outcomeOf(status: number, cache: string | null): Outcome {
  const known = (['MISS', 'HIT', 'STALE'] as const).find((origin) => origin === cache);
  const absent = status === 404;
  // Absence is an answer that is cached like any other; a 404 that no cache had a part in is a wrong address.
  const answers = (status >= 200 && status < 300) || (absent && (known !== undefined || cache === 'BYPASS'));
  if (!answers) return { failure: `HTTP ${status}` };
  if (cache === 'BYPASS') return { failure: 'x-cache: BYPASS' };
  return { origin: known ?? 'other', absent };
}

/** @returns milliseconds from now; undefined where the header is missing or says nothing */
export function retryAfter(header: string | null, now: number): number | undefined {
  if (header === null || header.trim() === '') return undefined;
  const ms = /^\d+$/.test(header.trim()) ? Number(header) * 1_000 : Date.parse(header) - now;
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

/** The system's code where there is one: fetch's own words are the same for everything. */
function networkFailure(error: unknown): string {
  const code = errorCode(error);
  return code === '' ? describe(error instanceof Error ? (error.cause ?? error) : error) : code;
}
