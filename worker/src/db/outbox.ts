/**
 * The outbox as the delivery loop uses it: one SQL statement an operation. docs/protocol.md#outbox-and-claims says why claiming
 * by a position loses nothing; the SQL functions say what each of them promises.
 */
import type pg from 'pg';
import { errorCode } from './errors.ts';
import { type ClaimedTarget, claimedTargets } from './outbox-batch.ts';
import { PUT, putValues, type Unconfirmed } from './pending-put.ts';

export interface Batch {
  /** Of the transactions whose changes these are, as `acknowledge` takes them; null: the batch is empty. */
  readonly xids: string | null;
  /** How many rows were changed; a transaction of more than one batch may hold counts as one more than that. */
  readonly changes: number;
  /** What they name, which may be nothing. */
  readonly targets: readonly ClaimedTarget[];
  /** Give it to the next claim. */
  readonly position: string;
  /** This batch is the last: it ends with the newest change that was committed before the claim's snapshot. */
  readonly drained: boolean;
}

/** How many changes wait, and since when. */
export interface Backlog {
  /** Counting stops at the limit that the caller gave. */
  readonly rows: number;
  readonly oldestMs: number;
}

/** The row of a claim; arrays stay in their text form (outbox-batch.ts). */
type RawBatch = [
  position: string,
  drained: 't' | 'f',
  xids: string | null,
  changes: string | null,
  targets: string | null,
  watchIds: string | null,
  ops: string | null,
  waitedUs: string | null,
  errors: string | null,
  intervalsMs: string | null,
];

const CLAIM = `
  select next_position, drained, xids, changes, targets, watch_ids, ops, waited_us, errors, intervals_ms
    from cache_invalidation.claim($1, $2)`;

const ACKNOWLEDGE = 'cache_invalidation.acknowledge($1::xid8[])';

/** All or nothing: a transaction's changes are deleted together, so each of its targets must have a row in `pending` first. */
const PUT_AND_ACKNOWLEDGE = `
  with ${PUT}
  select case when (select count(*) from put) = cardinality($2::text[]) then ${ACKNOWLEDGE} end as rows`;

const LOCK_NOT_AVAILABLE = '55P03';

const AS_TEXT: pg.CustomTypesConfig = { getTypeParser: () => (text: string) => text };

const BACKLOG = `
  select (select count(*) from (select from cache_invalidation.changes limit $1) as c)::int as rows,
         coalesce((1000 * extract(epoch from clock_timestamp() - (
           select min(at) from (select at from cache_invalidation.changes order by xid limit 1000) as first
         )))::float8, 0) as oldest_ms`;

export class Outbox {
  readonly #pool: Pick<pg.Pool, 'query'>;

  constructor(pool: Pick<pg.Pool, 'query'>) {
    this.#pool = pool;
  }

  /**
   * Hands out committed changes after `position`, those of one transaction together.
   *
   * @param position of the batch before; null hands out everything that is not acknowledged
   */
  async claim(position: string | null, limit: number): Promise<Batch> {
    const result = await this.#pool.query<RawBatch>({
      name: 'fencepost-claim',
      text: CLAIM,
      values: [position, limit],
      rowMode: 'array',
      types: AS_TEXT,
    });
    const raw = result.rows[0];
    if (raw === undefined) throw new Error('claim() gave no row.');
    const [next, drained, xids, changes, targets, watchIds, ops, waitedUs, errors, intervalsMs] = raw;
    return {
      xids,
      changes: Number(changes ?? 0),
      targets: claimedTargets({ targets, watchIds, ops, waitedUs, errors, intervalsMs }),
      position: next,
      drained: drained === 't',
    };
  }

  /**
   * Removes the changes of a batch, and puts those of its targets that Redis has not confirmed, or not for good, into `pending` in
   * the same statement. A change that is gone already is no error.
   *
   * @param unconfirmed each target once
   * @returns how many changes; null when nothing was done, because another session has a lock on the row of a throttled target: run
   *   these now
   */
  async acknowledge(xids: string, unconfirmed: readonly Unconfirmed[] = []): Promise<number | null> {
    try {
      const result = await this.#pool.query<{ rows: string | null }>(
        unconfirmed.length === 0
          ? { name: 'fencepost-acknowledge', text: `select ${ACKNOWLEDGE} as rows`, values: [xids] }
          : { name: 'fencepost-put', text: PUT_AND_ACKNOWLEDGE, values: [xids, ...putValues(unconfirmed)] },
      );
      const rows = result.rows[0]?.rows ?? null;
      return rows === null ? null : Number(rows);
    } catch (error) {
      // A row that another session has inserted and not committed, or the whole table.
      if (errorCode(error) === LOCK_NOT_AVAILABLE && unconfirmed.some(({ why }) => why === 'throttled'))
        return null;
      throw error;
    }
  }

  /** Starts a new epoch in the database. @returns its name */
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

  /** Redis has just confirmed this epoch. @returns false when the database has another one, or none */
  async confirmEpoch(epoch: string): Promise<boolean> {
    const { rowCount } = await this.#pool.query(
      'update cache_invalidation.epoch set confirmed_at = clock_timestamp() where value = $1',
      [epoch],
    );
    return rowCount === 1;
  }

  /** The snapshot of now, for `discard`. */
  async snapshot(): Promise<string> {
    const result = await this.#pool.query<{ snapshot: string }>(
      'select pg_current_snapshot()::text as snapshot',
    );
    return result.rows[0]?.snapshot ?? '';
  }

  /** Removes at most `limit` changes that are visible in the snapshot. @returns how many */
  async discard(snapshot: string, limit: number): Promise<number> {
    const result = await this.#pool.query<{ gone: string }>(
      'select cache_invalidation.discard($1::pg_snapshot, $2) as gone',
      [snapshot, limit],
    );
    return Number(result.rows[0]?.gone ?? 0);
  }

  /** @param countTo counting stops here */
  async backlog(countTo: number): Promise<Backlog> {
    const result = await this.#pool.query<{ rows: number; oldest_ms: number }>(BACKLOG, [countTo]);
    return { rows: result.rows[0]?.rows ?? 0, oldestMs: result.rows[0]?.oldest_ms ?? 0 };
  }

  /** Invalidates a target by hand. @returns the transaction, for `remaining` */
  async invalidate(target: string): Promise<string> {
    const result = await this.#pool.query<{ xid: string }>(
      'select cache_invalidation.invalidate($1) as xid',
      [target],
    );
    return result.rows[0]?.xid ?? '';
  }

  /** How many of these transactions are still in the outbox. */
  async remaining(xids: readonly string[]): Promise<number> {
    const result = await this.#pool.query<{ count: number }>(
      'select count(distinct xid)::int as count from cache_invalidation.changes where xid = any($1::xid8[])',
      [xids],
    );
    return result.rows[0]?.count ?? 0;
  }

  /** Which table each watch is on, for people. */
  async watchedTables(): Promise<Map<number, string>> {
    const result = await this.#pool.query<{ id: number; rel: string }>(
      'select id, rel::text as rel from cache_invalidation.watches',
    );
    return new Map(result.rows.map((row) => [row.id, row.rel]));
  }
}
