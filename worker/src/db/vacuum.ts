/**
 * Vacuums the outbox and what is pending after every 20 000 deletions, so that their size stays flat under load;
 * autovacuum would come once a minute.
 *
 * While an old snapshot pins deleted rows, a vacuum cannot help and the table grows: then the number of deletions between two
 * vacuums doubles, up to 5 million. Where the role may not vacuum (before Postgres 17 only the owner may), autovacuum does it.
 */
import type pg from 'pg';

const DELETIONS_LEAST = 20_000;
const DELETIONS_MOST = 5_000_000;

export class OutboxVacuum {
  readonly #pool: Pick<pg.Pool, 'query'>;
  #deleted = 0;
  #between = DELETIONS_LEAST;
  #bytes = 0;
  #running = false;

  constructor(pool: Pick<pg.Pool, 'query'>) {
    this.#pool = pool;
  }

  /** Counts deletions, and starts a vacuum in the background when there were enough. Never waits, never rejects. */
  deleted(rows: number): void {
    this.#deleted += rows;
    if (this.#running || this.#deleted < this.#between) return;
    this.#deleted = 0;
    this.#running = true;
    void this.#vacuum()
      .catch(() => undefined)
      .finally(() => {
        this.#running = false;
      });
  }

  async #vacuum(): Promise<void> {
    await this.#pool.query(
      'vacuum (skip_locked, truncate false) cache_invalidation.changes, cache_invalidation.pending',
    );
    const result = await this.#pool.query<{ bytes: string }>(
      "select pg_catalog.pg_total_relation_size('cache_invalidation.changes') as bytes",
    );
    const bytes = Number(result.rows[0]?.bytes ?? 0);
    this.#between =
      bytes > this.#bytes && this.#bytes > 0 ? Math.min(DELETIONS_MOST, this.#between * 2) : DELETIONS_LEAST;
    this.#bytes = bytes;
  }
}
