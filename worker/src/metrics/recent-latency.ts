/**
 * The time from the write of a row to its confirmed DEL, over the last minutes, for the dashboard. Prometheus computes it from the
 * histograms.
 *
 * Node's histograms are exact to three digits but keep no time. So there are two: one is filled, the previous one is kept,
 * and after half of the window they change places.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';

/** `read` covers between half of this time and all of it. */
export const WINDOW_MINUTES = 10;
const ROTATE_MS = (WINDOW_MINUTES / 2) * 60_000;

export interface RecentLatency {
  readonly medianMs: number;
  readonly percentile99Ms: number;
}

export class RecentLatencies {
  readonly #now: () => number;
  #older: RecordableHistogram = createHistogram();
  #newer: RecordableHistogram = createHistogram();
  #rotatedAt: number;

  /** @param now milliseconds of a monotonic clock */
  constructor(now: () => number) {
    this.#now = now;
    this.#rotatedAt = now();
  }

  observe(ms: number): void {
    this.#rotate();
    // Whole microseconds, at least one.
    this.#newer.record(Math.max(1, Math.round(ms * 1_000)));
  }

  /** @returns null when nothing was observed lately */
  read(): RecentLatency | null {
    this.#rotate();
    const both = createHistogram();
    both.add(this.#older);
    both.add(this.#newer);
    if (both.count === 0) return null;
    return { medianMs: both.percentile(50) / 1_000, percentile99Ms: both.percentile(99) / 1_000 };
  }

  #rotate(): void {
    const passed = this.#now() - this.#rotatedAt;
    if (passed < ROTATE_MS) return;
    this.#older = passed < 2 * ROTATE_MS ? this.#newer : createHistogram();
    this.#newer = createHistogram();
    this.#rotatedAt = this.#now();
  }
}
