/**
 * Whether invalidations flow: not "is the process alive" but "does what is committed reach Redis". The heartbeat, the
 * readiness endpoint and the metrics all ask here.
 *
 * Time is the process's monotonic clock; ages of rows come from the database's clock alone (outbox.ts). A stepping wall
 * clock changes neither.
 */
import type { WorkerError } from '../lib/errors.ts';

/** Without an empty outbox or a fresh batch for this long, the cache may be stale: no more heartbeat, not ready. */
export const STALL_MS = 15_000;

/** A worker that sleeps looks only at its fallback polls: the same, where these are further apart than usual. */
export const stallAfter = (pollMs: number): number => Math.max(STALL_MS, pollMs + 10_000);

/** A batch whose oldest row is older than this, at its confirmation, is a backlog and no sign of health. */
export const FRESH_MS = 15_000;

export class Flow {
  #freshAt: number | null = null;
  #failure: WorkerError | null = null;
  #lagMs = 0;
  readonly #stallMs: number;
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now(), stallMs: number = STALL_MS) {
    this.#now = now;
    this.#stallMs = stallMs;
  }

  /** A claim from the outbox's beginning found nothing. */
  drained(): void {
    this.#lagMs = 0;
    this.#failure = null;
    this.#freshAt = this.#now();
  }

  /** A batch is confirmed, whose oldest row was this old then. */
  confirmed(oldestAgeMs: number): void {
    this.#lagMs = oldestAgeMs;
    this.#failure = null;
    if (oldestAgeMs <= FRESH_MS) this.#freshAt = this.#now();
  }

  /** Applying or claiming failed. */
  failed(error: WorkerError): void {
    this.#failure = error;
  }

  /** Nothing is known any more: leadership was lost. */
  forget(): void {
    this.#freshAt = null;
    this.#failure = null;
  }

  get failure(): WorkerError | null {
    return this.#failure;
  }

  /** Age in milliseconds of the oldest row of the last batch; 0 when the outbox was empty. */
  get lagMs(): number {
    return this.#lagMs;
  }

  /** Milliseconds since the last sign of health; null when there was none since leadership began. */
  get silentMs(): number | null {
    return this.#freshAt === null ? null : this.#now() - this.#freshAt;
  }

  get flowing(): boolean {
    return this.#freshAt !== null && this.#now() - this.#freshAt <= this.#stallMs;
  }
}
