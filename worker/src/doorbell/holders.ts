/**
 * Who holds S and K, as Postgres's own lock table says: the leader, a leader that no longer gives a sign of life, or a
 * stranger (any role can take an advisory lock).
 */
import type pg from 'pg';
import { APPLICATION, LOCK_BELL, LOCK_LEADER } from '../database/names.ts';

export interface Holder {
  readonly lock: 'S' | 'K';
  readonly pid: number;
  readonly role: string;
  readonly application: string;
  /** Milliseconds since the session last began or ended a statement: a leader's beat, every 2 s. */
  readonly silentMs: number;
  /** Held by a role or a program that is not a worker. */
  readonly stranger: boolean;
}

/**
 * `activity` hides what a session does from roles that are not its own, but not its role; a hidden session is thus of
 * another role, and a stranger by that.
 */
const HOLDERS = `
  select l.objid::bigint as lock, l.pid, coalesce(a.usename, '?') as role,
         coalesce(a.application_name, '') as application,
         coalesce(1000 * extract(epoch from clock_timestamp() - greatest(a.query_start, a.state_change, a.backend_start)), 0)::float8
           as silent_ms,
         a.usename is distinct from session_user and not coalesce(pg_has_role(a.usesysid, session_user::regrole::oid, 'member'), false)
           as other_role
    from pg_catalog.pg_locks l
    left join pg_catalog.pg_stat_activity a on a.pid = l.pid
   where l.locktype = 'advisory' and l.granted and l.classid = 0 and l.objsubid = 1
     and l.objid in (${LOCK_LEADER}, ${LOCK_BELL})
     and l.mode = 'ExclusiveLock'
     and l.database = (select oid from pg_catalog.pg_database where datname = current_database())`;

/** Exclusive holders only: writers hold K in shared mode all the time. */
export async function lockHolders(pool: pg.Pool): Promise<Holder[]> {
  const result = await pool.query<{
    lock: string;
    pid: number;
    role: string;
    application: string;
    silent_ms: number;
    other_role: boolean;
  }>(HOLDERS);
  return result.rows.map((row) => ({
    lock: Number(row.lock) === LOCK_LEADER ? 'S' : 'K',
    pid: row.pid,
    role: row.role,
    application: row.application,
    silentMs: row.silent_ms,
    stranger: row.other_role || !row.application.startsWith(`${APPLICATION}:`),
  }));
}

/** A leader is silent for less than its beats' distance, three times over. */
const ALIVE_MS = 6_000;

/** Whether somebody leads and gives signs of life; false when the database cannot be asked. */
export async function leaderIsAlive(pool: pg.Pool): Promise<boolean> {
  try {
    const leader = (await lockHolders(pool)).find((holder) => holder.lock === 'S');
    return leader !== undefined && leader.silentMs < ALIVE_MS;
  } catch {
    return false;
  }
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
