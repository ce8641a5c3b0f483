/**
 * How long a caller waits for its flights: until they settle, its `timeout` is over, or its `signal` aborts; and for a
 * flight of somebody else's until that is overdue.
 */
import { CacheError } from '../protocol/errors.ts';
import type { Runtime } from '../redis/runtime.ts';
import type { Flight, Settled } from './single-flight.ts';

/** What a wait for somebody else's flight ends with when that flight is overdue. */
export const OVERDUE: Settled = { ok: false, error: 'overdue' };

export interface Patience {
  /** What a flight settles with, or what ended this caller's wait for it. Rejects with the reason of an aborted signal. */
  settled(flight: Flight): Promise<Settled>;
  /** Puts the timers away. */
  end(): void;
}

export interface Limits {
  /** Milliseconds; then every flight that has not settled counts as LOAD_TIMEOUT, so that stale answers may still serve. */
  readonly timeout?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** No caller waits, as behind a stale answer: then the time that is left keeps no process alive. */
  readonly idle?: boolean | undefined;
  /** Flights of other callers, and the milliseconds until the first of them is overdue. */
  readonly joined?: { readonly flights: readonly Flight[]; readonly overdueIn: number } | undefined;
}

/** @param giveUp leaves all flights of this caller; called when its time is over, with the reason */
export function startPatience(
  runtime: Runtime,
  { timeout, signal, joined, idle }: Limits,
  giveUp: (reason: unknown) => void,
): Patience {
  if (timeout === undefined && signal === undefined && joined === undefined) {
    return { settled: ({ settled }) => settled, end: () => {} };
  }
  const ended = new AbortController();
  const after = (milliseconds: number, run: () => void): void => {
    void runtime.sleep(milliseconds, ended.signal, idle).then(() => {
      if (!ended.signal.aborted) run();
    });
  };
  const overdue = new Promise<Settled>((resolve) => {
    if (joined !== undefined) after(Math.max(0, joined.overdueIn), () => resolve(OVERDUE));
  });
  const givenUp = new Promise<Settled>((resolve, reject) => {
    const abort = (): void => {
      giveUp(signal?.reason);
      reject(signal?.reason);
    };
    if (signal?.aborted === true) abort();
    else signal?.addEventListener('abort', abort, { once: true, signal: ended.signal });
    if (timeout === undefined) return;
    after(timeout, () => {
      const error = new CacheError('LOAD_TIMEOUT', 'The loader took longer than the timeout of this call.');
      giveUp(error);
      resolve({ ok: false, error });
    });
  });
  // When all flights settle in time nobody is left to hear of a later abort.
  givenUp.catch(() => {});
  return {
    settled: (flight) =>
      Promise.race(
        joined?.flights.includes(flight) === true
          ? [flight.settled, givenUp, overdue]
          : [flight.settled, givenUp],
      ),
    end: () => ended.abort(),
  };
}
