/**
 * Keeps the outbox small: it is vacuumed after every so many deletions, instead of within autovacuum's minute, so that
 * its size stays flat under load; and with it the targets that rest, whose rows are rewritten as often. While an old snapshot pins the deleted rows a vacuum cannot help and the table grows; then
 * the pause between two doubles. A courtesy: where the role may not vacuum (before Postgres 17 only the owner may),
 * autovacuum does it later.
 */
import type pg from 'pg';

const DELETIONS_LEAST = 20_000;
const DELETIONS_MOST = 5_000_000;

export class Tidy {
  readonly #pool: Pick<pg.Pool, 'query'>;
  #deleted = 0;
  #between = DELETIONS_LEAST;
  #bytes = 0;
  #running = false;

  constructor(pool: Pick<pg.Pool, 'query'>) {
    this.#pool = pool;
  }

  /** Counts deletions, and begins a vacuum beside the drain when there were enough. Never waits, never rejects. */
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
      'vacuum (skip_locked, truncate false) cache_invalidation.outbox, cache_invalidation.deferred',
    );
    const result = await this.#pool.query<{ bytes: string }>(
      "select pg_catalog.pg_total_relation_size('cache_invalidation.outbox') as bytes",
    );
    const bytes = Number(result.rows[0]?.bytes ?? 0);
    this.#between =
      bytes > this.#bytes && this.#bytes > 0 ? Math.min(DELETIONS_MOST, this.#between * 2) : DELETIONS_LEAST;
    this.#bytes = bytes;
  }
}
