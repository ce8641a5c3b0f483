/**
 * A timeout that does not blame Redis for this process's own standstill.
 *
 * A plain timer that comes due while the process was busy, or not scheduled at all, fires before the answer that has been
 * lying in the socket is looked at; under load that would open the circuit for a healthy Redis. So the time is counted in
 * slices, each armed when the one before has fired: a standstill, however long, counts as one slice, and the event loop
 * turns (and delivers what has arrived) between any two. On a process that is not at a standstill it is a plain timeout.
 */

const SLICES = 5;

export interface FairTimeout {
  readonly signal: AbortSignal;
  /** Ends the counting; the signal aborts no more. */
  stop(): void;
}

/** Starts counting so many milliseconds. */
export function startFairTimeout(milliseconds: number): FairTimeout {
  const controller = new AbortController();
  let left = SLICES;
  let timer = setTimeout(tick, milliseconds / SLICES);
  function tick(): void {
    left--;
    if (left > 0) timer = setTimeout(tick, milliseconds / SLICES);
    else controller.abort(new DOMException('Redis did not answer in time.', 'TimeoutError'));
  }
  return { signal: controller.signal, stop: () => clearTimeout(timer) };
}
