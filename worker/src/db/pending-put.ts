/**
 * How targets enter cache_invalidation.pending (pending.ts), and what becomes of one that is there already. The same statement takes
 * their changes out of the outbox. The merges as a table, and why nothing is lost: docs/protocol.md#pending
 */

export type Why =
  /** Its watch's min_interval is not over yet. */
  | 'throttled'
  /** Redis refused it, or it was refused together with others. */
  | 'refused'
  /** A pattern that no fence covers. */
  | 'sweep'
  /** Confirmed once, and to be deleted again after the replicas' lag. */
  | 'second delete'
  | 'second sweep';

/** What an acknowledged row still needs. */
export interface Unconfirmed {
  readonly target: string;
  readonly why: Why;
  /** Not before that many milliseconds from now. */
  readonly waitMs: number;
  /** Of a refusal. */
  readonly code?: string;
}

/**
 * Puts targets there: `put` has those that are there now. In the order of the targets, so that two workers do not wait for each other
 * in a circle. Throttled ones wait for nobody: one whose row another session has locked is left out, and can run now instead.
 *
 * What is outstanding, refused or to be swept, stays what it is and keeps its time. Otherwise throttled goes before a second deletion,
 * at the earlier of their times. Two second deletions wait for the later one: whatever wrote the target meanwhile has deleted it, too.
 */
export const PUT = `
  given as (
    select u.*, (select q.id from cache_invalidation.pending as q where q.digest = sha256(convert_to(u.target, 'UTF8'))) as id
      from unnest($2::text[], $3::text[], $4::float8[], $5::text[]) as u(target, why, wait_ms, code)
  ), unlocked as (
    select q.id from cache_invalidation.pending as q
     where q.id = any (array(select id from given where why = 'throttled' and id is not null)) for update skip locked
  ), put as (
    insert into cache_invalidation.pending as p (target, why, due_at, code)
      select g.target, g.why, clock_timestamp() + g.wait_ms * interval '1 millisecond', g.code
        from given as g
       where g.why <> 'throttled' or g.id is null or g.id in (select id from unlocked)
       order by g.target collate "C"
      on conflict (digest) do update set
        version = excluded.version,
        state = null,
        why = case
          when excluded.why like 'second%' then p.why
          when excluded.why = 'throttled' and p.failed_at is null and p.why in ('refused', 'sweep') then p.why
          else excluded.why
        end,
        due_at = case
          when p.failed_at is not null then excluded.due_at
          when p.why in ('refused', 'sweep') then p.due_at
          when excluded.why in ('refused', 'sweep') then excluded.due_at
          when 'throttled' in (p.why, excluded.why) then least(p.due_at, excluded.due_at)
          else greatest(p.due_at, excluded.due_at)
        end,
        attempts = case when p.failed_at is null and p.why in ('refused', 'sweep') then p.attempts else 0 end,
        code = coalesce(excluded.code, p.code),
        since = case when p.failed_at is null and p.why not like 'second%' then p.since else excluded.since end,
        failed_at = null
      returning p.id
  )`;

/** The parameters of PUT, from $2 on. */
export function putValues(unconfirmed: readonly Unconfirmed[]): unknown[] {
  return [
    unconfirmed.map(({ target }) => target),
    unconfirmed.map(({ why }) => why),
    unconfirmed.map(({ waitMs }) => waitMs),
    unconfirmed.map(({ code }) => code ?? null),
  ];
}
