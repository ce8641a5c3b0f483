/**
 * The database side of `doctor`: what the worker needs of the server, its rights, and who else is there.
 * Watches and their triggers are in watch-checks.ts.
 */
import type pg from 'pg';
import { duration } from '../commands/output.ts';
import type { Configuration } from '../configuration.ts';
import { explainDatabaseError } from '../database/database-errors.ts';
import { checkDatabase } from '../database/preconditions.ts';
import { lockHolders } from '../doorbell/holders.ts';
import { Outbox } from '../drain/outbox.ts';
import { describe } from '../errors.ts';
import { type Finding, fail, ok, warn } from './finding.ts';
import { checkWatches } from './watch-checks.ts';

type Check = (pool: pg.Pool, configuration: Configuration) => Promise<Finding | Finding[]>;

const SKEW_WARN_MS = 5_000;
const PINNED_WARN_SECONDS = 300;
const SILENT_MS = 6_000;

/** If the first check fails the others would only repeat it. */
export async function checkDatabaseSide(pool: pg.Pool, configuration: Configuration): Promise<Finding[]> {
  try {
    await checkDatabase(configuration.databaseUrl);
  } catch (error) {
    return [fail('database', describe(error), 'Mend this first, then run doctor again.')];
  }
  const findings: Finding[] = [
    ok('database', 'reachable, a primary, migrated, no transaction pooler in between'),
  ];
  const checks: [string, Check][] = [
    ['privileges', checkPrivileges],
    ['queue', checkQueue],
    ['watches', checkWatches],
    ['outbox', checkOutbox],
    ['worker', checkWorker],
    ['old snapshots', checkSnapshots],
    ['connections', checkConnections],
    ['clock', checkClock],
  ];
  for (const [name, check] of checks) {
    try {
      findings.push(...[await check(pool, configuration)].flat());
    } catch (error) {
      const reason = explainDatabaseError(error, configuration.databaseUrl);
      findings.push(
        fail(name, `could not be checked: ${reason.message}`, 'Mend this, then run doctor again.'),
      );
    }
  }
  return findings;
}

/** Everything that the worker calls or touches. */
const NEEDED = `
  select what from (
    select 'function ' || p.oid::regprocedure::text as what, has_function_privilege(p.oid, 'execute') as granted
      from pg_catalog.pg_proc as p
     where p.pronamespace = 'cache_invalidation'::regnamespace
       and p.proname in ('claim', 'acknowledge', 'due', 'settle', 'next_due', 'new_epoch', 'discard', 'invalidate')
    union all
    select format('%s on %s', right_name, t.name), has_table_privilege('cache_invalidation.' || t.name, right_name)
      from (values ('outbox', array['select', 'delete']), ('watches', array['select']),
                   ('deferred', array['select', 'insert', 'update', 'delete']), ('epoch', array['select', 'update'])
           ) as t(name, rights), unnest(t.rights) as right_name
  ) as needed where not granted`;

async function checkPrivileges(pool: pg.Pool): Promise<Finding> {
  const { rows } = await pool.query<{ what: string }>(NEEDED);
  const role = (await pool.query<{ role: string }>('select current_user as role')).rows[0]?.role ?? '?';
  return rows.length === 0
    ? ok('privileges', `role ${role} may do what the worker does`)
    : fail(
        'privileges',
        `role ${role} lacks: ${rows.map((row) => row.what).join(', ')}`,
        `grant fencepost_worker to ${role};`,
      );
}

async function checkQueue(pool: pg.Pool, configuration: Configuration): Promise<Finding> {
  if (configuration.queueRedisUrl !== undefined) return ok('queue', 'in the Redis of QUEUE_REDIS_URL');
  const { rows } = await pool.query<{ exists: boolean; usable: boolean }>(
    `select to_regclass('cache_invalidation_queue.job') is not null as exists,
            coalesce(has_schema_privilege(to_regnamespace('cache_invalidation_queue')::oid, 'usage'), false) as usable`,
  );
  if (rows[0]?.exists !== true) {
    return fail(
      'queue',
      'the schema cache_invalidation_queue is missing',
      'Apply all migrations: npx supabase db push --remote=<DATABASE_URL> --yes',
    );
  }
  return rows[0].usable
    ? ok('queue', 'in the database')
    : fail(
        'queue',
        'this role may not use the schema cache_invalidation_queue',
        'grant fencepost_worker to <user>;',
      );
}

async function checkOutbox(pool: pg.Pool, configuration: Configuration): Promise<Finding> {
  const { rows, oldestMs } = await new Outbox(pool).backlog(configuration.backlogRows + 1);
  const text = rows === 0 ? 'empty' : `${rows} rows, the oldest ${duration(oldestMs)} old`;
  if (rows > configuration.backlogRows || oldestMs > configuration.backlogAgeMs) {
    return fail(
      'outbox',
      `${text}: more than is applied one by one`,
      'Start a worker: it settles the backlog by a new epoch. Without one: select cache_invalidation.compact();',
    );
  }
  return oldestMs > 60_000
    ? fail(
        'outbox',
        `${text}: nobody applies it`,
        'Start a worker with "fencepost run", or look at its /readyz.',
      )
    : ok('outbox', text);
}

async function checkWorker(pool: pg.Pool): Promise<Finding[]> {
  const holders = await lockHolders(pool);
  const leader = holders.find((holder) => holder.lock === 'S' && !holder.stranger);
  const findings = holders
    .filter((holder) => holder.stranger)
    .map((holder) =>
      fail(
        'stranger',
        `process ${holder.pid} of role ${holder.role} (${holder.application || 'no name'}) holds ${holder.lock === 'S' ? 'the leadership lock' : 'the doorbell lock'} and is no worker`,
        `select pg_terminate_backend(${holder.pid});`,
      ),
    );
  if (leader === undefined) findings.push(fail('worker', 'none drains', 'Start one with "fencepost run".'));
  else if (leader.silentMs > SILENT_MS) {
    findings.push(
      fail(
        'worker',
        `the leader (process ${leader.pid}) has been silent for ${duration(leader.silentMs)}`,
        'It was stopped or cut off: start another worker, which takes over within 10 s.',
      ),
    );
  } else findings.push(ok('worker', `drains (database process ${leader.pid})`));
  return findings;
}

/** What keeps dead rows from being cleaned: transactions, prepared transactions and replication slots. */
const PINNED = `
  select 'process ' || pid || ' of ' || coalesce(usename, '?') || ', ' || state as who,
         extract(epoch from clock_timestamp() - xact_start)::float8 as seconds,
         format('select pg_terminate_backend(%s);', pid) as remedy
    from pg_catalog.pg_stat_activity
   where xact_start < clock_timestamp() - interval '${PINNED_WARN_SECONDS} seconds' and backend_type = 'client backend'
  union all
  select 'prepared transaction ' || quote_literal(gid), extract(epoch from clock_timestamp() - prepared)::float8,
         format('commit prepared %L; or rollback prepared %L;', gid, gid)
    from pg_catalog.pg_prepared_xacts
   where database = current_database() and prepared < clock_timestamp() - interval '${PINNED_WARN_SECONDS} seconds'
  order by 2 desc limit 5`;

async function checkSnapshots(pool: pg.Pool): Promise<Finding | Finding[]> {
  const { rows } = await pool.query<{ who: string; seconds: number; remedy: string }>(PINNED);
  if (rows.length === 0) return ok('old snapshots', 'none is pinned');
  return rows.map((row) =>
    warn(
      'old snapshots',
      `${row.who}, for ${duration(row.seconds * 1_000)}: deleted rows of the outbox stay on disk`,
      row.remedy,
    ),
  );
}

async function checkConnections(pool: pg.Pool): Promise<Finding> {
  const { rows } = await pool.query<{ used: number; most: number }>(
    `select (select count(*) from pg_catalog.pg_stat_activity where backend_type = 'client backend')::int as used,
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

async function checkClock(pool: pg.Pool): Promise<Finding> {
  const before = Date.now();
  const { rows } = await pool.query<{ now: Date }>('select clock_timestamp() as now');
  const after = Date.now();
  const skew = Math.round((rows[0]?.now.getTime() ?? before) - (before + after) / 2);
  return Math.abs(skew) <= SKEW_WARN_MS
    ? ok('clock', `within ${Math.abs(skew)} ms of the database's`)
    : warn(
        'clock',
        `${duration(Math.abs(skew))} ${skew > 0 ? 'behind' : 'ahead of'} the database's`,
        'Run NTP on both machines. Invalidations do not depend on it; queue delays do.',
      );
}
