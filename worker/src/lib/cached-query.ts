/**
 * The cached result of a query that a scrape or the dashboard asks for. It runs at most once in freshMs, and one at a time.
 * Callers wait at most waitMs, then get the last value. While the query fails, the last value stands.
 */
import { endsWithin } from './waiting.ts';

export interface CachedResult<T> {
  readonly value: T;
  /** When the query ended: milliseconds since 1970. */
  readonly at: number;
}

export interface CachedQueryOptions {
  /** Milliseconds from the start of one query to the earliest start of the next. */
  readonly freshMs: number;
  /** Milliseconds that a caller waits at most. */
  readonly waitMs: number;
}

export class CachedQuery<T> {
  readonly #query: () => Promise<T>;
  readonly #options: CachedQueryOptions;
  #startedAt = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | null = null;
  #last: CachedResult<T> | null = null;

  constructor(query: () => Promise<T>, options: CachedQueryOptions) {
    this.#query = query;
    this.#options = options;
  }

  /** The newest result, or null when there never was one. Never rejects. */
  async latest(): Promise<CachedResult<T> | null> {
    if (performance.now() - this.#startedAt >= this.#options.freshMs) {
      this.#running ??= this.#start();
    }
    if (this.#running !== null) await endsWithin(this.#options.waitMs, this.#running);
    return this.#last;
  }

  async #start(): Promise<void> {
    this.#startedAt = performance.now();
    try {
      this.#last = { value: await this.#query(), at: Date.now() };
    } catch {
      // The age of the last result shows the failure.
    } finally {
      this.#running = null;
    }
  }
}
