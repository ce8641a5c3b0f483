/**
 * The outbox as the drain uses it: one SQL statement an operation. What each promises, and why claiming by a position
 * loses nothing, stands above the functions in supabase/migrations (…_fencepost_drain.sql) and in docs/capture.md.
 */
import type pg from 'pg';

/** One pending target, as claimed. */
export interface OutboxRow {
  /** With `id` the row's name; both are 64 bits wide and stay text. */
  readonly xid: string;
  readonly id: string;
  readonly target: string;
  readonly watchId: number | null;
  /** `i`, `u`, `d` or `t`; null when it was written by hand. */
  readonly op: string | null;
  /** Milliseconds from the write to the claim, both by the database's clock. */
  readonly ageMs: number;
  /** The SQLSTATE for which the target was widened to its type's wildcard; null in good order. */
  readonly error: string | null;
}

export interface Page {
  readonly rows: readonly OutboxRow[];
  /** What the next claim is to be given. */
  readonly position: string;
  /** Everything committed before this claim's snapshot has been handed out. */
  readonly drained: boolean;
}

/** A deferred target whose interval is over. */
export interface DueTarget {
  readonly target: string;
  readonly watchId: number | null;
  readonly ageMs: number;
}

/** How many rows wait, and since when. */
export interface Backlog {
  /** Counted up to a limit. */
  readonly rows: number;
  readonly oldestMs: number;
}

/** [position, drained, xid, id, target, watch_id, op, age in ms, error]; arrays parse faster, and there may be millions. */
type RawRow = [
  string | null,
  boolean | null,
  string | null,
  string,
  string,
  number | null,
  string | null,
  number,
  string | null,
];

// date_part and not extract: the latter computes with numeric, which costs a microsecond a row.
// The position is as long as the list of running transactions: it is sent once, not with every row.
const CLAIM = `
  select case when row_number() over () = 1 then c.next_position end,
         case when row_number() over () = 1 then c.drained end,
         c.xid, c.id, c.target, c.watch_id, c.op,
         1000 * date_part('epoch', clock_timestamp() - c.written_at),
         c.error
    from cache_invalidation.claim($1, $2) as c`;

const DUE_IN =
  '(1000 * extract(epoch from cache_invalidation.next_due() - clock_timestamp()))::float8 as due_in_ms';

const ACKNOWLEDGE = `select cache_invalidation.acknowledge($1::xid8[], $2::bigint[]) as removed, ${DUE_IN}`;

const DUE = `
  select target, watch_id, 1000 * date_part('epoch', clock_timestamp() - since) as age_ms
    from cache_invalidation.due($1)`;

const BACKLOG = `
  select (select count(*) from (select from cache_invalidation.outbox limit $1) as o)::int as rows,
         coalesce((1000 * extract(epoch from clock_timestamp() - (
           select min(written_at) from (select written_at from cache_invalidation.outbox order by xid, id limit 1000) as first
         )))::float8, 0) as oldest_ms`;

/** A Postgres array of whole numbers; pg would quote and escape every one of them. */
function arrayOf(rows: readonly OutboxRow[], field: 'xid' | 'id'): string {
  let text = '{';
  for (const row of rows) text += text.length === 1 ? row[field] : `,${row[field]}`;
  return `${text}}`;
}

export class Outbox {
  readonly #pool: Pick<pg.Pool, 'query'>;

  constructor(pool: Pick<pg.Pool, 'query'>) {
    this.#pool = pool;
  }

  /**
   * Hands out committed rows that were not handed out before `position`, and moves those of targets that must rest
   * (`min_interval`) aside.
   *
   * @param position of the page before; null hands out everything that is not acknowledged
   */
  async claim(position: string | null, limit: number): Promise<Page> {
    const result = await this.#pool.query<RawRow>({
      name: 'fencepost-claim',
      text: CLAIM,
      values: [position, limit],
      rowMode: 'array',
    });
    const first = result.rows[0];
    const rows: OutboxRow[] = [];
    for (const [, , xid, id, target, watchId, op, ageMs, error] of result.rows) {
      // A page without rows still carries its position, in a row of nulls.
      if (xid !== null) rows.push({ xid, id, target, watchId, op, ageMs, error });
    }
    return { rows, position: first?.[0] ?? '', drained: first?.[1] === true };
  }

  /**
   * Removes rows whose targets Redis has confirmed. Rows that are gone already are no error.
   *
   * @returns milliseconds until the next deferred target is due; null when none waits
   */
  async acknowledge(rows: readonly OutboxRow[]): Promise<number | null> {
    const result = await this.#pool.query<{ due_in_ms: number | null }>({
      name: 'fencepost-acknowledge',
      text: ACKNOWLEDGE,
      values: [arrayOf(rows, 'xid'), arrayOf(rows, 'id')],
    });
    return result.rows[0]?.due_in_ms ?? null;
  }

  /** Milliseconds until the next deferred target is due; null when none waits. */
  async nextDue(): Promise<number | null> {
    const result = await this.#pool.query<{ due_in_ms: number | null }>(`select ${DUE_IN}`);
    return result.rows[0]?.due_in_ms ?? null;
  }

  /** Deferred targets that are due; they count as running until `settle`. */
  async due(limit: number): Promise<DueTarget[]> {
    const result = await this.#pool.query<{ target: string; watch_id: number | null; age_ms: number | null }>(
      DUE,
      [limit],
    );
    return result.rows.map((row) => ({ target: row.target, watchId: row.watch_id, ageMs: row.age_ms ?? 0 }));
  }

  /** Redis has confirmed these deferred targets: they rest again. */
  async settle(targets: readonly string[]): Promise<void> {
    await this.#pool.query('select cache_invalidation.settle($1::text[])', [targets]);
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

  /** What is committed now, for `discard`. */
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

  /** @param countTo the number beyond which counting stops */
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
