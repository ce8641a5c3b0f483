/** Asks many addresses, a bounded number at a time, until all have been asked or it is hopeless. */
import { setMaxListeners } from 'node:events';
import { type Outcome, Tally } from './results.ts';

/**
 * @param addresses each once
 * @param concurrency how many questions are open at a time, at most
 * @param ask one question; rejects only when its signal ends it
 * @param show an address as it may be shown
 */
export async function askAll(
  addresses: Iterable<string>,
  concurrency: number,
  ask: (address: string, signal: AbortSignal) => Promise<Outcome>,
  show: (address: string) => string,
): Promise<Tally> {
  const tally = new Tally();
  const stop = new AbortController();
  // Each lane listens.
  setMaxListeners(0, stop.signal);
  const remaining = addresses[Symbol.iterator]();
  const lane = async () => {
    for (let next = remaining.next(); next.done !== true && !stop.signal.aborted; next = remaining.next()) {
      const address = next.value;
      const outcome = await ask(address, stop.signal);
      // Of what was still open when it became hopeless, nothing is counted.
      if (stop.signal.aborted) return;
      tally.add(outcome, () => show(address));
      if (tally.hopeless !== undefined) stop.abort();
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: concurrency }, lane));
  const failed = lanes.find((ended) => ended.status === 'rejected');
  if (failed !== undefined && !stop.signal.aborted) throw failed.reason;
  return tally;
}
