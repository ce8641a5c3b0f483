/**
 * The outbox as the drain uses it: one SQL statement an operation. What each promises is written in docs/capture.md.
 */
import type pg from 'pg';

/** One pending target, as claimed. */
export interface OutboxRow {
  /** A bigint; kept as text, it never needs arithmetic. */
  readonly id: string;
  readonly target: string;
  readonly watchId: number | null;
  /** `i`, `u`, `d` or `t`; null when it was written by hand. */
  readonly op: string | null;
  /** Milliseconds from the write to the claim, both by the database's clock. */
  readonly ageMs: number;
}

/** Text of a row: [id, target, watch_id, op, age in ms]. Arrays parse faster than objects, and there may be millions. */
type RawRow = [string, string, number | null, string | null, number];

const CLAIM = `
  select id, target, watch_id, op,
         (1000 * extract(epoch from clock_timestamp() - written_at))::float8
    from cache_invalidation.outbox
   where id > $1
   order by id
   limit $2`;

const ACKNOWLEDGE = 'delete from cache_invalidation.outbox where id = any($1::bigint[])';

export class Outbox {
  readonly #pool: pg.Pool;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  /**
   * Reads, without locking, the oldest rows after `after`. Whoever else reads them may apply them too: harmless.
   *
   * @param after an id of this same pass; '0' for the outbox's beginning, which alone can tell that it is empty
   */
  async claim(after: string, limit: number): Promise<OutboxRow[]> {
    const result = await this.#pool.query<RawRow>({
      name: 'fencepost-claim',
      text: CLAIM,
      values: [after, limit],
      rowMode: 'array',
    });
    return result.rows.map(([id, target, watchId, op, ageMs]) => ({ id, target, watchId, op, ageMs }));
  }

  /** Removes rows whose targets Redis has confirmed. Rows that are gone already are no error. */
  async acknowledge(ids: readonly string[]): Promise<void> {
    await this.#pool.query({ name: 'fencepost-acknowledge', text: ACKNOWLEDGE, values: [ids] });
  }

  /** Starts a new epoch in the database and gives it. */
  async newEpoch(): Promise<string> {
    const result = await this.#pool.query<{ epoch: string }>(
      'select cache_invalidation.new_epoch() as epoch',
    );
    return result.rows[0]?.epoch ?? '';
  }

  async epoch(): Promise<string> {
    const result = await this.#pool.query<{ value: string }>('select value from cache_invalidation.epoch');
    return result.rows[0]?.value ?? '';
  }

  /** Which table each watch is on, for people. */
  async watchedTables(): Promise<Map<number, string>> {
    const result = await this.#pool.query<{ id: number; rel: string }>(
      'select id, rel::text as rel from cache_invalidation.watches',
    );
    return new Map(result.rows.map((row) => [row.id, row.rel]));
  }
}
