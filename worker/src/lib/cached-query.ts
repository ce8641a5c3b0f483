/**
 * A value that costs a query or commands, read because somebody looks at it (a scrape, the dashboard): at most once in a
 * while, one reading at a time whoever asks, and waited for no longer than a looker would. Until a new one is there, and
 * while reading fails, the last value stands.
 */
import { endsWithin } from './deadline.ts';

export interface Read<T> {
  readonly value: T;
  /** When it was read: milliseconds since 1970. */
  readonly at: number;
}

export interface ReadingOptions {
  /** No new reading begins sooner than this after the last began. */
  readonly freshMs: number;
  /** An answer comes after this at the latest. */
  readonly waitMs: number;
}

export class Reading<T> {
  readonly #read: () => Promise<T>;
  readonly #options: ReadingOptions;
  #began = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | null = null;
  #last: Read<T> | null = null;

  constructor(read: () => Promise<T>, options: ReadingOptions) {
    this.#read = read;
    this.#options = options;
  }

  /** The newest value, or null when there never was one. Never throws. */
  async latest(): Promise<Read<T> | null> {
    if (performance.now() - this.#began >= this.#options.freshMs) {
      this.#running ??= this.#start();
    }
    if (this.#running !== null) await endsWithin(this.#options.waitMs, this.#running);
    return this.#last;
  }

  async #start(): Promise<void> {
    this.#began = performance.now();
    try {
      this.#last = { value: await this.#read(), at: Date.now() };
    } catch {
      // The value's age says so.
    } finally {
      this.#running = null;
    }
  }
}
