/**
 * The database side of `doctor`: what the worker needs of the server, and its rights. Watches and their triggers are in
 * watch-checks.ts, who else is there in session-checks.ts.
 */
import type pg from 'pg';
import { explainDatabaseError } from '../../db/errors.ts';
import { Outbox } from '../../db/outbox.ts';
import { checkDatabase } from '../../db/preconditions.ts';
import type { Configuration } from '../../lib/config.ts';
import { describe } from '../../lib/errors.ts';
import { duration } from '../../lib/text.ts';
import { type Finding, fail, ok, warn } from './finding.ts';
import { checkQueueTables } from './queue-checks.ts';
import { checkConnections, checkSnapshots, checkWorker } from './session-checks.ts';
import { checkWatches } from './watch-checks.ts';

type Check = (pool: pg.Pool, configuration: Configuration) => Promise<Finding | Finding[]>;

const SKEW_WARN_MS = 5_000;

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
    ['queue', checkQueueTables],
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
