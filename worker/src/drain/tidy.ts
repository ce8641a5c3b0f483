/**
 * Keeps the outbox small: after many deletions its table is vacuumed at once instead of within autovacuum's minute.
 * A courtesy: where the role may not vacuum (before Postgres 17 only the owner may), autovacuum does it later.
 */
import type pg from 'pg';

const DELETIONS = 100_000;
const PAUSE_MS = 10_000;

export class Tidy {
  readonly #pool: Pick<pg.Pool, 'query'>;
  #deleted = 0;
  #lastAt = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | null = null;

  constructor(pool: Pick<pg.Pool, 'query'>) {
    this.#pool = pool;
  }

  deleted(rows: number): void {
    this.#deleted += rows;
  }

  /** Called when the outbox is empty: a vacuum takes a connection, which a drain under load needs more. */
  whenIdle(): void {
    if (this.#running !== null || this.#deleted < DELETIONS || performance.now() - this.#lastAt < PAUSE_MS)
      return;
    this.#deleted = 0;
    this.#lastAt = performance.now();
    this.#running = this.#pool
      .query('vacuum (skip_locked, truncate off) cache_invalidation.outbox')
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => {
        this.#running = null;
      });
  }
}
