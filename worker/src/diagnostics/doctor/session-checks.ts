/** Sessions of the database: the leading worker, foreign sessions on its locks, those that pin old rows, and connections left. */
import { setTimeout as pause } from 'node:timers/promises';
import type pg from 'pg';
import {
  ALIVE_MS,
  type Holder,
  leaderOf,
  lockHolders,
  remedyFor,
  seenAgain,
  takeOverRights,
  whoIs,
  workerSessions,
} from '../../db/lock-holders.ts';
import { duration } from '../../lib/text.ts';
import { type Finding, fail, ok, warn } from './finding.ts';

/** Between two reads of the locks, longer than a writer's commit takes. */
const READ_AGAIN_MS = 100;
const PINNED_WARN_SECONDS = 300;
/** Transactions that an old snapshot holds back, where its age in time cannot be seen. */
const PINNED_WARN_TRANSACTIONS = 100_000;

export async function checkWorker(pool: pg.Pool): Promise<Finding[]> {
  const holders = await lockHolders(pool);
  const leader = leaderOf(holders);
  const foreign = await foreignSessions(pool, holders);
  const findings = foreign.map(foreignFinding);
  const { alive } = await workerSessions(pool);
  if (leader !== undefined) {
    findings.push(
      leader.silentMs > ALIVE_MS
        ? fail(
            'worker',
            `the leader (process ${leader.pid}) has been silent for ${duration(leader.silentMs)}`,
            'It was stopped or cut off: start another worker, which takes over within 10 s.',
          )
        : ok(
            'worker',
            leader.silenceHidden
              ? `leads (database process ${leader.pid}); whether it is alive, this role cannot see: ${takeOverRights(leader.role)}`
              : `leads (database process ${leader.pid})`,
          ),
    );
  } else if (alive > 0 && foreign.some(({ lock }) => lock === 'leader')) {
    findings.push(
      warn(
        'worker',
        `delivers without the leader lock and without sleeping (${alive} running)`,
        'End the foreign session on the leader lock, as above.',
      ),
    );
  } else findings.push(fail('worker', 'none delivers', 'Start one with "fencepost run".'));
  return findings;
}

/** The foreign sessions. Reads twice, because a writer at its commit looks foreign on the wake lock for a moment. */
async function foreignSessions(pool: pg.Pool, holders: readonly Holder[]): Promise<Holder[]> {
  const foreign = holders.filter((holder) => holder.foreign);
  if (!foreign.some(({ lock, shared }) => lock === 'wake' && shared)) return foreign;
  await pause(READ_AGAIN_MS);
  return seenAgain(foreign, await lockHolders(pool));
}

/** Programs read the finding's name, so it stays `stranger`. */
function foreignFinding(holder: Holder): Finding {
  const lock = `the ${holder.lock} lock`;
  const how = `${holder.granted ? 'holds' : 'waits for'} ${lock}${holder.shared ? ' in shared mode' : ''}`;
  return fail('stranger', `${whoIs(holder)} ${how} and is no worker`, remedyFor(holder));
}

/**
 * What keeps dead rows from being vacuumed: transactions, prepared transactions, and standbys, through their slot or their
 * connection. A role sees how long its own sessions have been open. Of all others it sees only how many transactions they hold back.
 */
const PINNED = `
  select 'process ' || pid || ' of ' || coalesce(usename, '?') || coalesce(', ' || state, '') as who,
         extract(epoch from clock_timestamp() - xact_start)::float8 as seconds, age(backend_xmin)::int as transactions,
         format('select pg_terminate_backend(%s);', pid) as remedy
    from pg_catalog.pg_stat_activity
   where pid <> pg_backend_pid()
     and (xact_start < clock_timestamp() - interval '${PINNED_WARN_SECONDS} seconds' and backend_type = 'client backend'
          or (xact_start is null or backend_type = 'walsender') and age(backend_xmin) > ${PINNED_WARN_TRANSACTIONS})
  union all
  select 'prepared transaction ' || quote_literal(gid), extract(epoch from clock_timestamp() - prepared)::float8, null,
         format('commit prepared %L; or rollback prepared %L;', gid, gid)
    from pg_catalog.pg_prepared_xacts
   where database = current_database() and prepared < clock_timestamp() - interval '${PINNED_WARN_SECONDS} seconds'
  union all
  select case when active then 'replication slot ' else 'unused replication slot ' end || quote_literal(slot_name), null,
         age(xmin)::int, format('select pg_drop_replication_slot(%L); or set hot_standby_feedback = off on its standby', slot_name)
    from pg_catalog.pg_replication_slots
   where age(xmin) > ${PINNED_WARN_TRANSACTIONS}
   order by 2 desc nulls last limit 5`;

/** Sessions of which this role sees neither the age nor the kind of process; autovacuum has no role. */
const HIDDEN = `
  select count(*)::int as count, current_user as role from pg_catalog.pg_stat_activity
   where backend_xmin is not null and xact_start is null and usesysid is not null`;

export async function checkSnapshots(pool: pg.Pool): Promise<Finding | Finding[]> {
  const { rows } = await pool.query<{
    who: string;
    seconds: number | null;
    transactions: number | null;
    remedy: string;
  }>(PINNED);
  if (rows.length > 0) {
    return rows.map(({ who, seconds, transactions, remedy }) =>
      warn(
        'old snapshots',
        `${who}, for ${seconds === null ? `${transactions} transactions` : duration(seconds * 1_000)}: deleted rows of the outbox stay on disk`,
        remedy,
      ),
    );
  }
  const { count = 0, role = '?' } = (await pool.query<{ count: number; role: string }>(HIDDEN)).rows[0] ?? {};
  return ok(
    'old snapshots',
    count === 0
      ? 'none is pinned'
      : `none holds back ${PINNED_WARN_TRANSACTIONS} transactions; since when, role ${role} cannot see of ${count} (grant pg_read_all_stats to ${role};)`,
  );
}

export async function checkConnections(pool: pg.Pool): Promise<Finding> {
  const { rows } = await pool.query<{ used: number; most: number }>(
    `select (select count(*) from pg_catalog.pg_stat_activity
              where usesysid is not null and coalesce(backend_type, 'client backend') = 'client backend')::int as used,
            (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int) as most`,
  );
  const { used = 0, most = 0 } = rows[0] ?? {};
  return most - used >= 6
    ? ok('connections', `${used} of ${most} in use; a worker takes 6`)
    : warn(
        'connections',
        `${used} of ${most} in use; a worker takes 6`,
        'Close some, or raise max_connections.',
      );
}
