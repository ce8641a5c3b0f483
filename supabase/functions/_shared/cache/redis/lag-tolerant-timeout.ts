/**
 * A timeout that does not count a standstill of this process as a delay of Redis.
 *
 * A plain timer that comes due while the process was busy fires before the event loop reads the reply that lies in the
 * socket. Under load that would open the circuit of a healthy Redis. So the time runs in five slices, each armed when the one
 * before has fired: a standstill, however long, counts as one slice, and the event loop turns between any two.
 */

import { timers } from './runtime.ts';

const SLICES = 5;

export interface LagTolerantTimeout {
  readonly signal: AbortSignal;
  /** Stops the time; the signal will not abort. */
  stop(): void;
}

/** @param milliseconds until the signal aborts with a TimeoutError */
export function startLagTolerantTimeout(milliseconds: number, { start, stop } = timers): LagTolerantTimeout {
  const controller = new AbortController();
  let left = SLICES;
  let timer = start(tick, milliseconds / SLICES);
  function tick(): void {
    left--;
    if (left > 0) timer = start(tick, milliseconds / SLICES);
    else controller.abort(new DOMException('Redis did not answer in time.', 'TimeoutError'));
  }
  return { signal: controller.signal, stop: () => stop(timer) };
}
