/** Where the queue keeps its jobs: the tables and this role's rights to them, or the Redis of QUEUE_REDIS_URL. */
import type pg from 'pg';
import type { Configuration } from '../../lib/config.ts';
import { describe } from '../../lib/errors.ts';
import { isUpToDate } from '../../queue/install.ts';
import type { WorkQueue } from '../../queue/work-queue.ts';
import { type Finding, fail, ok } from './finding.ts';

const NAMED_MOST = 3;

/** What BullMQ calls and touches. A worker only reads BullMQ's record of its own migrations. */
const LACKING = `
  with queue as (select to_regnamespace('cache_invalidation_queue')::oid as oid)
  select format('%s on %s', right_name, c.relname) as what
    from pg_catalog.pg_class as c join queue on c.relnamespace = queue.oid,
         unnest(array['select', 'insert', 'update', 'delete']) as right_name
   where c.relkind in ('r', 'p') and (c.relname <> 'migration' or right_name = 'select')
     and not has_table_privilege(c.oid, right_name)
  union all
  select 'usage on ' || c.relname
    from pg_catalog.pg_class as c join queue on c.relnamespace = queue.oid
   -- The planner may check the right first, which is an error for what is no sequence.
   where case when c.relkind = 'S' then not has_sequence_privilege(c.oid, 'usage') end
  union all
  select 'execute on ' || p.proname
    from pg_catalog.pg_proc as p join queue on p.pronamespace = queue.oid
   where not has_function_privilege(p.oid, 'execute')`;

const SCHEMA_STATE = `
  select to_regclass('cache_invalidation_queue.job') is not null as installed,
         n.oid is not null as exists,
         coalesce(has_schema_privilege(n.oid, 'usage'), false) as usable,
         -- The worker installs after "set role", which is a right of its own since Postgres 16.
         coalesce(has_schema_privilege(w.oid, n.oid, 'create')
           and pg_has_role(w.oid, case when current_setting('server_version_num')::int < 160000 then 'member' else 'set' end)
           and not exists (select from pg_catalog.pg_class as c
                            where c.relnamespace = n.oid and not pg_has_role(w.oid, c.relowner, 'usage')), false) as installable,
         current_user as role
    from (select) as one
    left join pg_catalog.pg_namespace as n on n.nspname = 'cache_invalidation_queue'
    left join pg_catalog.pg_roles as w on w.rolname = 'fencepost_worker'`;

interface SchemaState {
  readonly installed: boolean;
  readonly exists: boolean;
  readonly usable: boolean;
  readonly installable: boolean;
  readonly role: string;
}

export async function checkQueueTables(pool: pg.Pool, configuration: Configuration): Promise<Finding[]> {
  if (configuration.queueRedisUrl !== undefined) return [];
  const state = (await pool.query<SchemaState>(SCHEMA_STATE)).rows[0];
  if (state === undefined || !state.exists) {
    return [
      fail(
        'queue',
        'the schema cache_invalidation_queue is missing',
        'Apply all migrations: npx supabase db push --remote=<DATABASE_URL> --yes',
      ),
    ];
  }
  const { role } = state;
  const remedy = `grant fencepost_worker to ${role}; if it has that role, apply all migrations again.`;
  if (!state.usable)
    return [fail('queue', `role ${role} may not use the schema cache_invalidation_queue`, remedy)];
  const install = (missing: string, verb: string) =>
    state.installable
      ? ok('queue', `in the database; the leading worker ${verb} its tables when it starts`)
      : fail(
          'queue',
          `its tables ${missing}, and role ${role} may not ${verb.slice(0, -1)} them`,
          'As the owner: npx fencepost queue-sql | psql <DATABASE_URL of the owner>',
        );
  if (!state.installed) return [install('are not installed', 'installs')];
  const lacking = (await pool.query<{ what: string }>(LACKING)).rows.map(({ what }) => what);
  if (lacking.length === 0) {
    // The catalogs are readable while somebody holds a lock on the table.
    await pool.query('select from cache_invalidation_queue.job limit 1');
    if (!(await isUpToDate(pool))) return [install('are older than this worker', 'upgrades')];
    return [ok('queue', 'in the database')];
  }
  const more = lacking.length > NAMED_MOST ? ` and ${lacking.length - NAMED_MOST} more` : '';
  const named = lacking.slice(0, NAMED_MOST).join(', ');
  return [fail('queue', `role ${role} lacks in cache_invalidation_queue: ${named}${more}`, remedy)];
}

/** @param queue opens the connections to QUEUE_REDIS_URL */
export async function checkQueueRedis(queue: () => WorkQueue): Promise<Finding> {
  const remedy = 'Mend this, or leave QUEUE_REDIS_URL unset: the queue is then in the database.';
  try {
    await queue().counts();
    return ok('queue', 'in the Redis of QUEUE_REDIS_URL, which answers');
  } catch (error) {
    return fail('queue', describe(error), remedy);
  }
}
