/**
 * How long a caller waits for its loads: until they settle, its `timeout` is over, or its `signal` aborts. For a load that it has
 * joined it waits no longer than until that load hangs.
 */
import { CacheError } from '../protocol/errors.ts';
import type { Runtime } from '../redis/runtime.ts';
import type { KeyLoad, Settled } from './single-flight.ts';

/** How a wait for a joined load ends when that load hangs. */
export const HUNG: Settled = { ok: false, error: 'hung' };

export interface Wait {
  /** What a load settles with, or what ended this caller's wait for it. Rejects with the reason of an aborted signal. */
  settled(load: KeyLoad): Promise<Settled>;
  /** Clears the timers. */
  end(): void;
}

export interface WaitLimits {
  /** Milliseconds; then every load that has not settled counts as LOAD_TIMEOUT, so that stale answers may still serve. */
  readonly timeout?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** True behind a stale answer, where no caller waits: the timer does not keep the process alive. */
  readonly idle?: boolean | undefined;
  /** Loads of other callers, and the milliseconds until the first of them hangs. */
  readonly joined?: { readonly loads: readonly KeyLoad[]; readonly hungIn: number } | undefined;
}

/** What to run when a caller's signal aborts. One listener serves all calls with it: Node takes more than ten for a leak. */
const listening = new WeakMap<AbortSignal, Set<() => void>>();

function whenAborted(signal: AbortSignal, run: () => void, until: AbortSignal): void {
  const runs = listening.get(signal) ?? new Set();
  const runAll = (): void => {
    for (const one of runs) one();
  };
  if (!listening.has(signal)) {
    listening.set(signal, runs);
    signal.addEventListener('abort', runAll, { once: true });
  }
  runs.add(run);
  until.addEventListener('abort', () => runs.delete(run), { once: true });
}

/** @param giveUp leaves all loads of this caller; called when its time is over, with the reason */
export function startWait(
  runtime: Runtime,
  { timeout, signal, joined, idle }: WaitLimits,
  giveUp: (reason: unknown) => void,
): Wait {
  if (timeout === undefined && signal === undefined && joined === undefined) {
    return { settled: ({ settled }) => settled, end: () => {} };
  }
  const ended = new AbortController();
  const after = (milliseconds: number, run: () => void): void => {
    void runtime.sleep(milliseconds, ended.signal, idle).then(() => {
      if (!ended.signal.aborted) run();
    });
  };
  const hung = new Promise<Settled>((resolve) => {
    if (joined !== undefined) after(Math.max(0, joined.hungIn), () => resolve(HUNG));
  });
  const givenUp = new Promise<Settled>((resolve, reject) => {
    const abort = (): void => {
      giveUp(signal?.reason);
      reject(signal?.reason);
    };
    if (signal?.aborted === true) abort();
    else if (signal !== undefined) whenAborted(signal, abort, ended.signal);
    if (timeout === undefined) return;
    after(timeout, () => {
      const error = new CacheError('LOAD_TIMEOUT', 'The loader took longer than the timeout of this call.');
      giveUp(error);
      resolve({ ok: false, error });
    });
  });
  // When all loads settle in time nobody is left to hear of a later abort.
  givenUp.catch(() => {});
  return {
    settled: (load) =>
      Promise.race(
        joined?.loads.includes(load) === true ? [load.settled, givenUp, hung] : [load.settled, givenUp],
      ),
    end: () => ended.abort(),
  };
}
