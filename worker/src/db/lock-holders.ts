/**
 * Who holds the leader lock and the wake lock, read from Postgres's own lock table.
 *
 * Any role can take an advisory lock, in either mode. A foreign session is one that holds or waits for a lock and is no worker:
 *
 *     leader lock   workers take it exclusively and never wait. Foreign is everybody else who holds it in any mode, or waits.
 *     wake lock     the leader takes it exclusively; writers share it until their transaction ends. Foreign is everybody else who
 *                   holds it exclusively, or in shared mode without a transaction that has written.
 */
import type pg from 'pg';
import { errorCode } from './errors.ts';
import {
  APPLICATION,
  LEADER_LOCK,
  LOCKS_APPLICATION,
  UNFIT_APPLICATION,
  WAKE_LOCK,
  WORKER_ROLE,
} from './names.ts';
import { Outbox } from './outbox.ts';

export interface Holder {
  readonly lock: 'leader' | 'wake';
  readonly shared: boolean;
  /** False: it waits for the lock. */
  readonly granted: boolean;
  /** Null for a prepared transaction, which belongs to no process. */
  readonly pid: number | null;
  readonly role: string;
  readonly application: string;
  /** Milliseconds since the session last began or ended a statement. A leader does so every 2 s. */
  readonly silentMs: number;
  /** This role may not see when the session was active: silentMs is 0. */
  readonly silenceHidden: boolean;
  /** Its role or its program is no worker's. */
  readonly foreign: boolean;
}

/**
 * pg_stat_activity hides when a session of another role was active, but neither its role nor its name. A worker runs as our role,
 * a member of it, or a member of fencepost_worker.
 * A lock whose process is gone from pg_stat_activity is no longer held. A writer is known by the lock on its own transaction id,
 * which it has because it inserted into the outbox.
 */
const HOLDERS = `
  with locks as materialized (select * from pg_catalog.pg_locks where locktype in ('advisory', 'transactionid'))
  select l.objid::bigint as lock, l.mode = 'ShareLock' as shared, l.granted, l.pid, coalesce(a.usename, '?') as role,
         coalesce(a.application_name, '') as application,
         1000 * extract(epoch from clock_timestamp() - greatest(a.query_start, a.state_change, a.backend_start))::float8 as silent_ms,
         a.usename is distinct from session_user
           and not coalesce(pg_has_role(a.usesysid, session_user::regrole::oid, 'member'), false)
           and not coalesce(pg_has_role(a.usesysid, to_regrole('${WORKER_ROLE}')::oid, 'member'), false) as other_role
    from locks as l
    left join pg_catalog.pg_stat_activity as a on a.pid = l.pid
   where l.locktype = 'advisory' and l.classid = 0 and l.objsubid = 1
     and l.database = (select oid from pg_catalog.pg_database where datname = current_database())
     and (l.pid is null or a.pid is not null)
     and (l.objid = ${LEADER_LOCK}
          or l.objid = ${WAKE_LOCK} and l.granted
             and (l.mode = 'ExclusiveLock'
                  or l.pid is not null
                     and not exists (select from locks as t
                                      where t.pid = l.pid and t.locktype = 'transactionid' and t.mode = 'ExclusiveLock')))
   order by l.granted desc, l.pid`;

/**
 * Everybody who holds or waits for the leader lock, and everybody but the writers who holds the wake lock. A writer in the
 * instant of its commit may look foreign on the wake lock: believe only what two reads show (`seenAgain`).
 */
export async function lockHolders(pool: Pick<pg.Pool, 'query'>): Promise<Holder[]> {
  const result = await pool.query<{
    lock: string;
    shared: boolean;
    granted: boolean;
    pid: number | null;
    role: string;
    application: string;
    silent_ms: number | null;
    other_role: boolean;
  }>(HOLDERS);
  return result.rows.map((row) => ({
    lock: Number(row.lock) === LEADER_LOCK ? 'leader' : 'wake',
    shared: row.shared,
    granted: row.granted,
    pid: row.pid,
    role: row.role,
    application: row.application,
    silentMs: row.silent_ms ?? 0,
    silenceHidden: row.silent_ms === null && row.pid !== null,
    foreign: row.other_role || row.shared || !row.application.startsWith(`${APPLICATION}:`),
  }));
}

/** The foreign sessions of the second read that the first read shows as well. */
export function seenAgain(before: readonly Holder[], now: readonly Holder[]): Holder[] {
  const isSame = (a: Holder, b: Holder) => a.lock === b.lock && a.pid === b.pid && a.shared === b.shared;
  return now.filter((holder) => holder.foreign && before.some((earlier) => isSame(earlier, holder)));
}

/** The worker that leads, if one does. */
export function leaderOf(holders: readonly Holder[]): Holder | undefined {
  return holders.find((holder) => holder.lock === 'leader' && holder.granted && !holder.foreign);
}

/** One sentence about a foreign session, with the remedy, for a worker's log and its /readyz. */
export function describeForeignSession(holder: Holder): string {
  const [name, effect] =
    holder.lock === 'leader'
      ? [
          'The leader lock',
          holder.granted
            ? 'this worker delivers without it'
            : 'once granted, it would keep the next worker from leading',
        ]
      : ['The wake lock', 'invalidations flow, but this worker cannot sleep'];
  const how = `${holder.granted ? 'is held' : 'is waited for'}${holder.shared ? ' in shared mode' : ''}`;
  return `${name} ${how} by ${whoIs(holder)}, which is no worker: ${effect}. End that session: ${remedyFor(holder)}`;
}

export function whoIs({ pid, role, application }: Holder): string {
  return pid === null
    ? 'a prepared transaction'
    : `process ${pid} of role ${role} (${application || 'no name'})`;
}

/** The SQL that ends the session. */
export function remedyFor({ pid }: Holder): string {
  return pid === null
    ? "select gid from pg_prepared_xacts; then: rollback prepared '<gid>';"
    : `select pg_terminate_backend(${pid});`;
}

/** What lets one role see a silent worker of another and end its session. */
export function takeOverRights(role: string): string {
  return `a take-over from it, should it be stopped or cut off, needs "grant pg_read_all_stats, pg_signal_backend to <this worker’s role>;" or workers of one role (it is ${role})`;
}

/** Rows this old are late even for a leader that replaces a stopped one. */
const BEHIND_MS = 10_000;

/**
 * A leader whose silence this role may not see, and that leaves rows in the outbox. If it is alive after all, both deliver.
 *
 * @returns one sentence, or null
 */
export async function mayBeStopped(pool: pg.Pool, leader: Holder): Promise<string | null> {
  if (!leader.silenceHidden) return null;
  try {
    const { oldestMs } = await new Outbox(pool).backlog(1);
    if (oldestMs < BEHIND_MS) return null;
  } catch {
    return null;
  }
  return `The leading worker (${whoIs(leader)}) leaves rows in the outbox, and this role may not see whether it is alive: this worker delivers without the leader lock. To end it: ${remedyFor(leader)}`;
}

/** A living leader is never silent for longer: three beats of 2 s. */
export const ALIVE_MS = 6_000;

/** Whether a worker leads and is alive; false when the database cannot be asked. */
export async function leaderIsAlive(pool: pg.Pool): Promise<boolean> {
  try {
    const leader = leaderOf(await lockHolders(pool));
    return leader !== undefined && leader.silentMs < ALIVE_MS;
  } catch {
    return false;
  }
}

/** SQLSTATE insufficient_privilege. */
const NOT_ALLOWED = '42501';

export interface WorkerSessions {
  readonly running: number;
  /** Those that were active within the last ALIVE_MS, or whose silence this role may not see. */
  readonly alive: number;
  /** Those that could not take over. */
  readonly unfit: number;
}

/** The workers of this database. Each keeps one session for its locks and beats on it, whether it leads or not. */
export async function workerSessions(pool: pg.Pool): Promise<WorkerSessions> {
  const result = await pool.query<WorkerSessions>(
    `select count(*)::int as running,
            count(*) filter (where coalesce(greatest(query_start, state_change) > clock_timestamp() - interval '${ALIVE_MS} milliseconds', true))::int as alive,
            count(*) filter (where application_name = $2)::int as unfit
       from pg_catalog.pg_stat_activity where application_name in ($1, $2) and datname = current_database()`,
    [LOCKS_APPLICATION, UNFIT_APPLICATION],
  );
  return result.rows[0] ?? { running: 0, alive: 0, unfit: 0 };
}

/**
 * Ends another worker's backend.
 *
 * @returns false where Postgres does not allow it: the sessions are of different roles; null when it was not found, or the
 *   database could not be asked
 */
export async function endBackend(pool: pg.Pool, pid: number): Promise<boolean | null> {
  try {
    // The same statement checks the name again: the process id may have gone to another session meanwhile.
    const result = await pool.query<{ done: boolean }>(
      `select pg_catalog.pg_terminate_backend(pid) as done
         from pg_catalog.pg_stat_activity where pid = $1 and application_name in ($2, $3)`,
      [pid, LOCKS_APPLICATION, UNFIT_APPLICATION],
    );
    return result.rows[0]?.done === true ? true : null;
  } catch (error) {
    return errorCode(error) === NOT_ALLOWED ? false : null;
  }
}
