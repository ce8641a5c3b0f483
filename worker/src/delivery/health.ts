/**
 * Whether invalidations flow: not "is the process alive" but "does what is committed reach Redis". The heartbeat, readiness
 * and the metrics ask here.
 *
 * Time is the process's monotonic clock. Ages of rows come from the database's clock alone (db/outbox.ts). A wall clock that
 * steps changes neither.
 */
import type { WorkerError } from '../lib/errors.ts';

/** After 15 s without an empty outbox or a fresh batch the cache may be stale: no heartbeat, not ready. */
export const STALL_MS = 15_000;

/** A sleeping worker delivers only at its fallback polls, whose interval may be longer than STALL_MS. */
export const stallAfter = (pollMs: number): number => Math.max(STALL_MS, pollMs + 10_000);

/** A confirmed batch whose oldest row is older than this is a backlog, not a sign of health. */
export const FRESH_MS = 15_000;

export class DeliveryHealth {
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
  emptied(): void {
    this.#lagMs = 0;
    this.#failure = null;
    this.#freshAt = this.#now();
  }

  /** A batch was confirmed. @param oldestAgeMs age of its oldest row at that moment */
  confirmed(oldestAgeMs: number): void {
    this.#lagMs = oldestAgeMs;
    this.#failure = null;
    if (oldestAgeMs <= FRESH_MS) this.#freshAt = this.#now();
  }

  /** Applying or claiming failed. */
  failed(error: WorkerError): void {
    this.#failure = error;
  }

  /** The role changed: nothing is known any more. */
  reset(): void {
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

  /** Milliseconds since the last sign of health; null when there was none in this role. */
  get silentMs(): number | null {
    return this.#freshAt === null ? null : this.#now() - this.#freshAt;
  }

  get flowing(): boolean {
    return this.#freshAt !== null && this.#now() - this.#freshAt <= this.#stallMs;
  }
}
