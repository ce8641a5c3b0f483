/**
 * How long a caller waits for its flights: until they settle, its `timeout` is over, or its `signal` aborts.
 */
import { CacheError } from './cache-error.ts';
import type { Flight, Settled } from './flights.ts';
import type { Runtime } from './runtime.ts';
import type { GetOrSetOptions } from './settings.ts';

/**
 * Runs `wait`, which is given a way to wait for a flight. On giving up the caller leaves all of its flights, and a load
 * that nobody waits for any more is aborted. A timeout settles a flight with LOAD_TIMEOUT, so that stale answers
 * may still serve; an aborted signal rejects with the signal's reason.
 */
export async function withPatience(
  runtime: Runtime,
  { timeout, signal }: GetOrSetOptions,
  flights: readonly Flight[],
  wait: (settled: (flight: Flight) => Promise<Settled>) => Promise<void>,
): Promise<void> {
  for (const { crew } of flights) crew.join();
  if (timeout === undefined && signal === undefined) return wait((flight) => flight.settled);
  const over = new AbortController();
  const givenUp = new Promise<Settled>((resolve, reject) => {
    const leave = (reason: unknown): void => {
      if (over.signal.aborted) return;
      over.abort();
      for (const { crew } of flights) crew.leave(reason);
    };
    const abort = (): void => {
      leave(signal?.reason);
      reject(signal?.reason);
    };
    if (signal?.aborted === true) abort();
    signal?.addEventListener('abort', abort, { once: true, signal: over.signal });
    if (timeout === undefined) return;
    void runtime.sleep(timeout, over.signal).then(() => {
      const error = new CacheError('LOAD_TIMEOUT', `The loader took longer than ${timeout} ms.`);
      leave(error);
      resolve({ ok: false, error });
    });
  });
  // When all flights settle in time nobody is left to hear of a later abort.
  givenUp.catch(() => {});
  try {
    await wait((flight) => Promise.race([flight.settled, givenUp]));
  } finally {
    over.abort();
  }
}
