/**
 * cache_invalidation.pending: what has left the outbox and is not confirmed yet. Outbox.acknowledge puts targets here. The delivery
 * loop runs those that are throttled (delivery/throttled-targets.ts), the queue's jobs all others (queue/pending-work.ts). One SQL
 * statement an operation.
 *
 * Promise: a row is deleted only by a confirmation of the version that was read before its DEL was sent. A target that is put
 * here again meanwhile has another version. Why this suffices: docs/protocol.md#pending
 */
import type pg from 'pg';
import { PUT, putValues, type Unconfirmed, type Why } from './pending-put.ts';

export interface PendingTarget {
  readonly id: string;
  readonly version: string;
  readonly target: string;
  /** Milliseconds since its oldest event was put here. */
  readonly ageMs: number;
  /** How often Redis has refused it since then. */
  readonly attempts: number;
  /** Where a sweep continues. */
  readonly state: unknown;
}

export interface PendingCounts {
  readonly due: number;
  readonly later: number;
  /** Dead letters. */
  readonly failed: number;
}

export interface FailedTarget {
  readonly id: string;
  readonly target: string;
  readonly why: Why;
  readonly code: string;
  readonly failedAt: Date;
}

/** Pauses of 1 s, 2 s, 4 s … between 8 attempts: about two minutes in all, then the target is a dead letter. */
const ATTEMPTS = 8;
export const FIRST_PAUSE_MS = 1_000;

/** Who works on it, and how. */
export type Kind = 'throttled' | 'delete' | 'sweep';

/** Each as the predicate of an index has it, so that rows of another kind are not read. */
const OF_KIND: Readonly<Record<Kind, string>> = {
  throttled: "failed_at is null and why = 'throttled'",
  delete: "failed_at is null and why <> 'throttled' and why not like '%sweep'",
  sweep: "failed_at is null and why <> 'throttled' and why like '%sweep'",
};

/**
 * Throttled targets from before the clock stepped back: they do not wait for the size of the step. The order makes it the index of
 * `since`, also in a plan that was made while the table was empty.
 */
const fromTheFuture = (limit: string) => `
  select id from cache_invalidation.pending
   where ${OF_KIND.throttled} and since > (select clock_timestamp()) order by since desc limit ${limit}`;

const due = (kind: Kind) => `
  select id, version::text, target, (1000 * extract(epoch from clock_timestamp() - since))::float8 as "ageMs", attempts, state
    from cache_invalidation.pending
   where id = any (array(
     select id from cache_invalidation.pending where ${OF_KIND[kind]} and due_at <= (select clock_timestamp()) order by due_at limit $1
   )${kind === 'throttled' ? ` || array(${fromTheFuture('$1')})` : ''})
   order by due_at`;

const nextDue = (kind: Kind) => `
  select (1000 * extract(epoch from min(due_at) - clock_timestamp()))::float8 as in_ms
    from cache_invalidation.pending where ${OF_KIND[kind]}
  ${kind === 'throttled' ? `union all select 0 from (${fromTheFuture('1')}) as f order by in_ms` : ''}`;

/** The rows that still have the version that was read. A locked one is being written: it gets another version. */
const UNCHANGED = `
  unchanged as (
    select p.id from cache_invalidation.pending as p
      join unnest($1::bigint[], $2::xid8[]) as seen(id, version) on p.id = seen.id and p.version = seen.version
       for update of p skip locked
  )`;

const CONFIRM = `
  with ${UNCHANGED}, removed as (
    delete from cache_invalidation.pending as p using unchanged as u
     where p.id = u.id and ($3 = 0 or p.why like 'second%')
  ), again as (
    update cache_invalidation.pending as p
       set why = case when p.why = 'sweep' then 'second sweep' else 'second delete' end,
           due_at = clock_timestamp() + $3 * interval '1 millisecond',
           version = pg_current_xact_id(), attempts = 0, code = null, state = null
      from unchanged as u
     where p.id = u.id and $3 > 0 and p.why not like 'second%'
  )
  select count(*)::int as confirmed from unchanged`;

const REFUSED = `
  with ${UNCHANGED}
  update cache_invalidation.pending as p
     set why = case p.why when 'second delete' then 'refused' else p.why end,
         attempts = p.attempts + 1,
         code = seen.code,
         due_at = clock_timestamp() + ${FIRST_PAUSE_MS} * (1 + random() / 4) * 2 ^ p.attempts * interval '1 millisecond',
         failed_at = case when p.attempts + 1 >= ${ATTEMPTS} then clock_timestamp() end
    from unchanged as u join unnest($1::bigint[], $3::text[]) as seen(id, code) on seen.id = u.id
   where p.id = u.id`;

const POSTPONE = `
  with ${UNCHANGED}
  update cache_invalidation.pending as p set due_at = clock_timestamp() + $3 * interval '1 millisecond'
    from unchanged as u where p.id = u.id`;

const COUNTS = `
  select count(*) filter (where failed_at is null and due_at <= clock_timestamp())::int as due,
         count(*) filter (where failed_at is null and due_at > clock_timestamp())::int as later,
         count(*) filter (where failed_at is not null)::int as failed
    from (select failed_at, due_at from cache_invalidation.pending where why <> 'throttled' limit $1) as p`;

/** Counting stops here. */
const COUNT_TO = 100_000;

export class Pending {
  readonly #pool: Pick<pg.Pool, 'query'>;

  constructor(pool: Pick<pg.Pool, 'query'>) {
    this.#pool = pool;
  }

  /** Puts targets here that stand in no outbox any more. @param unconfirmed not throttled; each target once */
  async put(unconfirmed: readonly Unconfirmed[]): Promise<void> {
    if (unconfirmed.length === 0) return;
    await this.#pool.query(`with ${PUT} select $1`, [null, ...putValues(unconfirmed)]);
  }

  /** Targets to work on now. They stay due until `confirm`, `refused` or `postpone`; who asks again gets them again. */
  async due(kind: Kind, limit: number): Promise<PendingTarget[]> {
    return (await this.#pool.query<PendingTarget>(due(kind), [limit])).rows;
  }

  /** Milliseconds until the next one is due, not less than 0; null when none waits. */
  async nextDueMs(kind: Kind): Promise<number | null> {
    const { rows } = await this.#pool.query<{ in_ms: number | null }>(nextDue(kind));
    const inMs = rows[0]?.in_ms ?? null;
    return inMs === null ? null : Math.max(0, inMs);
  }

  /**
   * Redis has confirmed these.
   *
   * @param secondMs repeat a first deletion after that time; 0: nothing is left to do
   * @returns how many had no further event meanwhile
   */
  async confirm(targets: readonly PendingTarget[], secondMs: number): Promise<number> {
    const [row] = await this.#write<{ confirmed: number }>(CONFIRM, targets, secondMs);
    return row?.confirmed ?? 0;
  }

  /** Redis refuses these, alone. @param codes of the refusals, in the same order */
  async refused(targets: readonly PendingTarget[], codes: readonly string[]): Promise<void> {
    await this.#write(REFUSED, targets, codes);
  }

  /** Nothing is known of these. It costs no attempt. */
  async postpone(targets: readonly PendingTarget[], ms: number): Promise<void> {
    await this.#write(POSTPONE, targets, ms);
  }

  /** Stores where a sweep is. A pattern that was put here again meanwhile keeps none: its next sweep begins anew. */
  async save({ id, version }: PendingTarget, state: object): Promise<void> {
    await this.#pool.query(
      'update cache_invalidation.pending set state = $3 where id = $1 and version = $2::xid8',
      [id, version, state],
    );
  }

  /** What waits for the queue. */
  async counts(): Promise<PendingCounts> {
    const { rows } = await this.#pool.query<PendingCounts>(COUNTS, [COUNT_TO]);
    return rows[0] ?? { due: 0, later: 0, failed: 0 };
  }

  /** How many throttled targets wait. @param countTo counting stops here */
  async throttled(countTo: number): Promise<number> {
    const { rows } = await this.#pool.query<{ count: number }>(
      `select count(*)::int as count
         from (select from cache_invalidation.pending where ${OF_KIND.throttled} limit $1) as p`,
      [countTo],
    );
    return rows[0]?.count ?? 0;
  }

  /** The dead letters, the newest first. */
  async failed(limit: number): Promise<FailedTarget[]> {
    const { rows } = await this.#pool.query<FailedTarget>(
      `select id, target, why, coalesce(code, '') as code, failed_at as "failedAt"
         from cache_invalidation.pending where failed_at is not null order by failed_at desc limit $1`,
      [limit],
    );
    return rows;
  }

  /** Makes all dead letters due, with new attempts. @returns how many there were */
  async retryFailed(): Promise<number> {
    const { rowCount } = await this.#pool.query(
      `update cache_invalidation.pending set failed_at = null, attempts = 0, due_at = clock_timestamp()
        where failed_at is not null`,
    );
    return rowCount ?? 0;
  }

  /** A new epoch that began after this snapshot is confirmed: what the snapshot shows needs no DEL any more. */
  async settle(snapshot: string): Promise<void> {
    await this.#pool.query(
      'delete from cache_invalidation.pending where pg_visible_in_snapshot(version, $1::pg_snapshot)',
      [snapshot],
    );
  }

  async #write<Row extends pg.QueryResultRow>(
    text: string,
    targets: readonly PendingTarget[],
    value: unknown,
  ): Promise<Row[]> {
    if (targets.length === 0) return [];
    const values = [targets.map(({ id }) => id), targets.map(({ version }) => version), value];
    return (await this.#pool.query<Row>(text, values)).rows;
  }
}
