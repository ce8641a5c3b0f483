/**
 * The outbox as the delivery loop uses it: one SQL statement an operation. docs/protocol.md#outbox-and-claims says why claiming
 * by a position loses nothing; the SQL functions say what each of them promises.
 */
import type pg from 'pg';
import { BatchRows } from './outbox-batch.ts';
import { PUT, type Unconfirmed } from './pending.ts';

export interface Batch {
  readonly rows: BatchRows;
  /** Some rows belong to watches with a min_interval. Call `moveThrottled` before you apply them, and tell `acknowledge`. */
  readonly throttled: boolean;
  /** Give it to the next claim. */
  readonly position: string;
  /** This batch is the last: it ends with the newest row that was committed before the claim's snapshot. */
  readonly drained: boolean;
}

/** A throttled target whose interval is over. */
export interface DueTarget {
  readonly target: string;
  readonly watchId: number | null;
  readonly ageMs: number;
}

/** How many rows wait, and since when. */
export interface Backlog {
  /** Counting stops at the limit that the caller gave. */
  readonly rows: number;
  readonly oldestMs: number;
}

/** The row of a claim; arrays stay in their text form (outbox-batch.ts). */
type RawBatch = [
  position: string,
  drained: 't' | 'f',
  throttled: 't' | 'f',
  xids: string | null,
  ids: string,
  targets: string,
  watchIds: string,
  ops: string,
  waitedUs: string,
  errors: string | null,
];

const CLAIM = `
  select next_position, drained, rests, xids, ids, targets, watch_ids, ops, waited_us, errors
    from cache_invalidation.claim($1, $2)`;

const ACKNOWLEDGE = 'select cache_invalidation.acknowledge($1::xid8[], $2::bigint[], $3)';

const AS_TEXT: pg.CustomTypesConfig = { getTypeParser: () => (text: string) => text };

const untilMs = (time: string) => `(1000 * extract(epoch from ${time} - clock_timestamp()))::float8 as in_ms`;

const DUE = `
  select target, watch_id, 1000 * date_part('epoch', clock_timestamp() - since) as age_ms, run::text as run
    from cache_invalidation.due($1)`;

const BACKLOG = `
  select (select count(*) from (select from cache_invalidation.outbox limit $1) as o)::int as rows,
         coalesce((1000 * extract(epoch from clock_timestamp() - (
           select min(written_at) from (select written_at from cache_invalidation.outbox order by xid, id limit 1000) as first
         )))::float8, 0) as oldest_ms`;

export class Outbox {
  readonly #pool: Pick<pg.Pool, 'query'>;

  constructor(pool: Pick<pg.Pool, 'query'>) {
    this.#pool = pool;
  }

  /**
   * Hands out committed rows after `position`.
   *
   * @param position of the batch before; null hands out everything that is not acknowledged
   */
  async claim(position: string | null, limit: number): Promise<Batch> {
    // Without a position nothing is known of throttled targets in progress: all of them have to run again.
    if (position === null) await this.#pool.query('select cache_invalidation.resume()');
    const result = await this.#pool.query<RawBatch>({
      name: 'fencepost-claim',
      text: CLAIM,
      values: [position, limit],
      rowMode: 'array',
      types: AS_TEXT,
    });
    const raw = result.rows[0];
    if (raw === undefined) throw new Error('claim() gave no row.');
    const [next, drained, throttled, xids, ids, targets, watchIds, ops, waitedUs, errors] = raw;
    const rows = new BatchRows(
      xids === null ? null : { xids, ids, targets, watchIds, ops, waitedUs, errors },
    );
    return { rows, throttled: throttled === 't', position: next, drained: drained === 't' };
  }

  /** Sets rows aside whose targets ran less than their min_interval ago. @returns the others, to be applied now */
  async moveThrottled(rows: BatchRows): Promise<BatchRows> {
    const result = await this.#pool.query<{ moved: string[] }>({
      name: 'fencepost-rest',
      text: 'select cache_invalidation.rest($1::xid8[], $2::bigint[])::text[] as moved',
      values: [rows.xids, rows.ids],
    });
    return rows.without(result.rows[0]?.moved ?? []);
  }

  /**
   * Removes rows whose targets Redis has confirmed, and puts those that it has not, or not for good, into `pending` in the same
   * statement. A row that is gone already is no error.
   *
   * @param throttled of the rows' batch; true is always right, and slower
   * @param unconfirmed distinct targets of these rows
   */
  async acknowledge(
    rows: Pick<BatchRows, 'xids' | 'ids'>,
    throttled: boolean,
    unconfirmed: readonly Unconfirmed[] = [],
  ): Promise<void> {
    const values = [rows.xids, rows.ids, throttled];
    if (unconfirmed.length === 0)
      await this.#pool.query({ name: 'fencepost-acknowledge', text: ACKNOWLEDGE, values });
    else
      await this.#pool.query(`with put as (${PUT}) ${ACKNOWLEDGE}`, [
        ...values,
        unconfirmed.map(({ target }) => target),
        unconfirmed.map(({ why }) => why),
        unconfirmed.map(({ waitMs }) => waitMs),
        unconfirmed.map(({ code }) => code ?? null),
      ]);
  }

  /** Milliseconds until the next throttled target is due; null when none waits. */
  async nextDue(): Promise<number | null> {
    return await this.#inMs('cache_invalidation.next_due()');
  }

  /**
   * Removes some throttled targets whose interval is over and which nothing waits for; bounded, so that it takes no notable time.
   *
   * @returns milliseconds until the next call; null: call it again after a target has run
   */
  async forgetThrottled(): Promise<number | null> {
    return await this.#inMs('cache_invalidation.forget_rested()');
  }

  async #inMs(time: string): Promise<number | null> {
    const result = await this.#pool.query<{ in_ms: number | null }>(`select ${untilMs(time)}`);
    return result.rows[0]?.in_ms ?? null;
  }

  /** Throttled targets that are due. They count as in progress until `settle` gets the same run. */
  async due(limit: number): Promise<{ run: string; targets: DueTarget[] }> {
    const result = await this.#pool.query<{
      target: string;
      watch_id: number | null;
      age_ms: number | null;
      run: string;
    }>(DUE, [limit]);
    return {
      run: result.rows[0]?.run ?? '',
      targets: result.rows.map((row) => ({
        target: row.target,
        watchId: row.watch_id,
        ageMs: row.age_ms ?? 0,
      })),
    };
  }

  /** Redis has confirmed these targets: their interval begins again, unless another run of them has begun meanwhile. */
  async settle(targets: readonly string[], run: string): Promise<void> {
    await this.#pool.query('select cache_invalidation.settle($1::text[], $2::uuid)', [targets, run]);
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

  /** The snapshot of now, for `discard`. */
  async snapshot(): Promise<string> {
    const result = await this.#pool.query<{ snapshot: string }>(
      'select pg_current_snapshot()::text as snapshot',
    );
    return result.rows[0]?.snapshot ?? '';
  }

  /** Removes at most `limit` rows that are visible in the snapshot. @returns how many */
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

  /** Invalidates a target by hand. @returns the row's id */
  async invalidate(target: string): Promise<string> {
    const result = await this.#pool.query<{ id: string }>('select cache_invalidation.invalidate($1) as id', [
      target,
    ]);
    return result.rows[0]?.id ?? '';
  }

  /** `invalidate` for many targets in one statement. */
  async invalidateAll(targets: readonly string[]): Promise<void> {
    if (targets.length === 0) return;
    await this.#pool.query(
      'select count(cache_invalidation.invalidate(target)) from unnest($1::text[]) as target',
      [targets],
    );
  }

  /** How many of these rows are still in the outbox. */
  async remaining(ids: readonly string[]): Promise<number> {
    const result = await this.#pool.query<{ count: number }>(
      'select count(*)::int as count from cache_invalidation.outbox where id = any($1::bigint[])',
      [ids],
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
