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

/** What a worker cannot do without; a test compares both lists with the grants to its role. */
const FUNCTIONS = [
  'claim',
  'render',
  'acknowledge',
  'new_epoch',
  'discard',
  'compact',
  'problems',
  'invalidate',
];
const TABLE_RIGHTS = [
  ...['select on changes', 'delete on changes', 'select on outbox', 'select on status'],
  ...['select on watches', 'select on versions', 'select on answer_sources'],
  ...['select on pending', 'insert on pending', 'update on pending', 'delete on pending'],
  ...['select on epoch', 'insert on epoch', 'update on epoch'],
];

/**
 * What the connected role lacks: rights that the catalog says fencepost_worker has, and rights that fencepost_worker itself
 * has lost, as when somebody drops a function and makes it again.
 */
const LACKING = `
  with worker as (select oid from pg_catalog.pg_roles where rolname = 'fencepost_worker')
  select 'function ' || p.oid::regprocedure::text as what
    from pg_catalog.pg_proc as p left join worker on true
   where p.pronamespace = 'cache_invalidation'::regnamespace
     and (p.proname = any ($1) or has_function_privilege(worker.oid, p.oid, 'execute'))
     and not has_function_privilege(p.oid, 'execute')
  union all
  select format('%s on %s', right_name, c.relname)
    from pg_catalog.pg_class as c left join worker on true,
         unnest(array['select', 'insert', 'update', 'delete']) as right_name
   where c.relnamespace = 'cache_invalidation'::regnamespace and c.relkind in ('r', 'p', 'v')
     and (format('%s on %s', right_name, c.relname) = any ($2) or has_table_privilege(worker.oid, c.oid, right_name))
     and not has_table_privilege(c.oid, right_name)`;

export async function checkPrivileges(pool: pg.Pool): Promise<Finding> {
  const { rows } = await pool.query<{ what: string }>(LACKING, [FUNCTIONS, TABLE_RIGHTS]);
  const role = (await pool.query<{ role: string }>('select current_user as role')).rows[0]?.role ?? '?';
  return rows.length === 0
    ? ok('privileges', `role ${role} may do what the worker does`)
    : fail(
        'privileges',
        `role ${role} lacks: ${rows.map((row) => row.what).join(', ')}`,
        `grant fencepost_worker to ${role}; if it has that role, grant to fencepost_worker what is named here.`,
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
        `${text}: not applied`,
        'Start a worker with "fencepost run"; if one leads, its /readyz says what is in the way.',
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
