/**
 * Who holds S and K, as Postgres's own lock table says: the leader, a leader that no longer gives a sign of life, or a
 * stranger (any role can take an advisory lock, in either mode).
 *
 * A worker holds both exclusively and never waits for them; writers hold K in shared mode, each to the end of its
 * transaction. Hence a stranger is, on S: whoever else holds it in any mode, or waits for it; on K: whoever else holds it
 * exclusively, or in shared mode without a transaction that has written.
 */
import type pg from 'pg';
import { APPLICATION, LOCK_BELL, LOCK_LEADER } from './names.ts';

export interface Holder {
  readonly lock: 'S' | 'K';
  readonly shared: boolean;
  /** False: it waits for the lock, and gets it when the holder ends. */
  readonly granted: boolean;
  /** Null: a prepared transaction, which belongs to no process. */
  readonly pid: number | null;
  readonly role: string;
  readonly application: string;
  /** Milliseconds since the session last began or ended a statement: a leader's beat, every 2 s. */
  readonly silentMs: number;
  /** Held by a role or a program that is not a worker. */
  readonly stranger: boolean;
}

/**
 * `activity` hides what a session does from roles that are not its own, but not its role; a hidden session is thus of
 * another role, and a stranger by that. A process that has ended between the two looks holds nothing any more. A writer is
 * known by the lock on its own transaction's number: whoever inserted into the outbox has one.
 */
const HOLDERS = `
  with locks as materialized (select * from pg_catalog.pg_locks where locktype in ('advisory', 'transactionid'))
  select l.objid::bigint as lock, l.mode = 'ShareLock' as shared, l.granted, l.pid, coalesce(a.usename, '?') as role,
         coalesce(a.application_name, '') as application,
         coalesce(1000 * extract(epoch from clock_timestamp() - greatest(a.query_start, a.state_change, a.backend_start)), 0)::float8
           as silent_ms,
         a.usename is distinct from session_user and not coalesce(pg_has_role(a.usesysid, session_user::regrole::oid, 'member'), false)
           as other_role
    from locks as l
    left join pg_catalog.pg_stat_activity as a on a.pid = l.pid
   where l.locktype = 'advisory' and l.classid = 0 and l.objsubid = 1
     and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
     and (l.pid is null or a.pid is not null)
     and (l.objid = ${LOCK_LEADER}
          or l.objid = ${LOCK_BELL} and l.granted
             and (l.mode = 'ExclusiveLock'
                  or l.pid is not null
                     and not exists (select from locks as t
                                      where t.pid = l.pid and t.locktype = 'transactionid' and t.mode = 'ExclusiveLock')))
   order by l.granted desc, l.pid`;

/**
 * All that hold or wait for S, and all but the writers that hold K. A writer in the instant of its commit may be taken for
 * a stranger on K: believe that of nobody who was not seen twice (`seenAgain`).
 */
export async function lockHolders(pool: Pick<pg.Pool, 'query'>): Promise<Holder[]> {
  const result = await pool.query<{
    lock: string;
    shared: boolean;
    granted: boolean;
    pid: number | null;
    role: string;
    application: string;
    silent_ms: number;
    other_role: boolean;
  }>(HOLDERS);
  return result.rows.map((row) => ({
    lock: Number(row.lock) === LOCK_LEADER ? 'S' : 'K',
    shared: row.shared,
    granted: row.granted,
    pid: row.pid,
    role: row.role,
    application: row.application,
    silentMs: row.silent_ms,
    stranger: row.other_role || row.shared || !row.application.startsWith(`${APPLICATION}:`),
  }));
}

/** The strangers of the second look that the first one saw as well. */
export function seenAgain(before: readonly Holder[], now: readonly Holder[]): Holder[] {
  const isSame = (a: Holder, b: Holder) => a.lock === b.lock && a.pid === b.pid && a.shared === b.shared;
  return now.filter((holder) => holder.stranger && before.some((earlier) => isSame(earlier, holder)));
}

/** The worker that leads, if one does. */
export function leaderOf(holders: readonly Holder[]): Holder | undefined {
  return holders.find((holder) => holder.lock === 'S' && holder.granted && !holder.stranger);
}

/** One sentence about a stranger, with the remedy, for a worker's log and its /readyz. */
export function describeStranger(holder: Holder): string {
  const [name, effect] =
    holder.lock === 'S'
      ? [
          'Leadership lock S',
          holder.granted ? 'draining without it' : 'it would keep the next worker from leading',
        ]
      : ["The doorbell's lock K", 'invalidations flow, but this worker cannot sleep'];
  const how = `${holder.granted ? 'is held' : 'is waited for'}${holder.shared ? ' in shared mode' : ''}`;
  return `${name} ${how} by ${whoIs(holder)}, which is no worker: ${effect}. End that session: ${remedyFor(holder)}`;
}

export function whoIs({ pid, role, application }: Holder): string {
  return pid === null
    ? 'a prepared transaction'
    : `process ${pid} of role ${role} (${application || 'no name'})`;
}

/** What ends it. */
export function remedyFor({ pid }: Holder): string {
  return pid === null
    ? "select gid from pg_prepared_xacts; then: rollback prepared '<gid>';"
    : `select pg_terminate_backend(${pid});`;
}

/** A leader is silent for less than its beats' distance, three times over. */
export const ALIVE_MS = 6_000;

/** Whether somebody leads and gives signs of life; false when the database cannot be asked. */
export async function leaderIsAlive(pool: pg.Pool): Promise<boolean> {
  try {
    const leader = leaderOf(await lockHolders(pool));
    return leader !== undefined && leader.silentMs < ALIVE_MS;
  } catch {
    return false;
  }
}

export interface WorkerSessions {
  readonly running: number;
  /** Those that gave a sign of life within the last seconds. */
  readonly alive: number;
}

/** The workers of this database, whoever leads: each has one session for the locks, and it beats. */
export async function workerSessions(pool: pg.Pool): Promise<WorkerSessions> {
  const result = await pool.query<{ running: number; alive: number }>(
    `select count(*)::int as running,
            count(*) filter (where greatest(query_start, state_change) > clock_timestamp() - interval '${ALIVE_MS} milliseconds')::int as alive
       from pg_catalog.pg_stat_activity where application_name = $1 and datname = current_database()`,
    [`${APPLICATION}:locks`],
  );
  return result.rows[0] ?? { running: 0, alive: 0 };
}

/** Ends another worker's backend. Postgres allows it among sessions of one role. Gives false where it does not. */
export async function endBackend(pool: pg.Pool, pid: number): Promise<boolean> {
  try {
    // The name is looked at again in the same statement, so that a process id used anew is not hit.
    const result = await pool.query<{ done: boolean }>(
      `select pg_catalog.pg_terminate_backend(pid) as done
         from pg_catalog.pg_stat_activity where pid = $1 and application_name = $2`,
      [pid, `${APPLICATION}:locks`],
    );
    return result.rows[0]?.done === true;
  } catch {
    return false;
  }
}
