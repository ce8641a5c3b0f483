/**
 * From the write of a row to its confirmed DEL, of late. Prometheus computes that from the histograms; this is for people who look
 * at the worker itself. Node's histograms (HdrHistogram) are exact to three digits, but know no time: one is filled, the one before
 * it is kept, and each time it is full of its minutes the older is forgotten.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

/** What is told covers between half of this and all of it. */
export const WINDOW_MINUTES = 10;
const TURN_MS = (WINDOW_MINUTES / 2) * 60_000;

export interface RecentLatency {
  readonly medianMs: number;
  readonly percentile99Ms: number;
}

export class RecentLatencies {
  readonly #now: () => number;
  #older: RecordableHistogram = createHistogram();
  #newer: RecordableHistogram = createHistogram();
  #turnedAt: number;

  /** @param now milliseconds of a monotonic clock */
  constructor(now: () => number) {
    this.#now = now;
    this.#turnedAt = now();
  }

  observe(ms: number): void {
    this.#turn();
    // Whole microseconds, at least one.
    this.#newer.record(Math.max(1, Math.round(ms * 1_000)));
  }

  /** @returns null when nothing was applied of late */
  read(): RecentLatency | null {
    this.#turn();
    const both = createHistogram();
    both.add(this.#older);
    both.add(this.#newer);
    if (both.count === 0) return null;
    return { medianMs: both.percentile(50) / 1_000, percentile99Ms: both.percentile(99) / 1_000 };
  }

  #turn(): void {
    const passed = this.#now() - this.#turnedAt;
    if (passed < TURN_MS) return;
    this.#older = passed < 2 * TURN_MS ? this.#newer : createHistogram();
    this.#newer = createHistogram();
    this.#turnedAt = this.#now();
  }
}
