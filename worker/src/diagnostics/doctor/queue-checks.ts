/** Where the queue keeps its jobs: the tables and this role's rights to them, or the Redis of QUEUE_REDIS_URL. */
import type pg from 'pg';
import type { Configuration } from '../../lib/config.ts';
import { answerWithin } from '../../lib/deadline.ts';
import { describe } from '../../lib/errors.ts';
import type { WorkQueue } from '../../queue/work-queue.ts';
import { type Finding, fail, ok } from './finding.ts';

const ANSWER_WITHIN_MS = 5_000;
const NAMED_MOST = 3;

/** Whatever BullMQ may call or touch; the list of its own migrations it only reads. */
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
   -- The planner may look at the right first, which is an error for what is no sequence.
   where case when c.relkind = 'S' then not has_sequence_privilege(c.oid, 'usage') end
  union all
  select 'execute on ' || p.proname
    from pg_catalog.pg_proc as p join queue on p.pronamespace = queue.oid
   where not has_function_privilege(p.oid, 'execute')`;

export async function checkQueueTables(pool: pg.Pool, configuration: Configuration): Promise<Finding[]> {
  if (configuration.queueRedisUrl !== undefined) return [];
  const { rows } = await pool.query<{ exists: boolean; usable: boolean; role: string }>(
    `select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
                     where n.nspname = 'cache_invalidation_queue' and c.relname = 'job') as exists,
            coalesce(has_schema_privilege(to_regnamespace('cache_invalidation_queue')::oid, 'usage'), false) as usable,
            current_user as role`,
  );
  const { exists = false, usable = false, role = '?' } = rows[0] ?? {};
  if (!exists) {
    return [
      fail(
        'queue',
        'the schema cache_invalidation_queue is missing',
        'Apply all migrations: npx supabase db push --remote=<DATABASE_URL> --yes',
      ),
    ];
  }
  const remedy = `grant fencepost_worker to ${role}; if it has that role, apply all migrations again.`;
  if (!usable) return [fail('queue', `role ${role} may not use the schema cache_invalidation_queue`, remedy)];
  const lacking = (await pool.query<{ what: string }>(LACKING)).rows.map(({ what }) => what);
  if (lacking.length === 0) return [ok('queue', 'in the database')];
  const more = lacking.length > NAMED_MOST ? ` and ${lacking.length - NAMED_MOST} more` : '';
  const named = lacking.slice(0, NAMED_MOST).join(', ');
  return [fail('queue', `role ${role} lacks in cache_invalidation_queue: ${named}${more}`, remedy)];
}

/** @param queue opens the connections to QUEUE_REDIS_URL */
export async function checkQueueRedis(queue: () => WorkQueue): Promise<Finding> {
  const remedy =
    'Correct QUEUE_REDIS_URL and start its Redis, or leave it unset: the queue is then in the database.';
  try {
    await answerWithin(ANSWER_WITHIN_MS, queue().counts());
    return ok('queue', 'in the Redis of QUEUE_REDIS_URL, which answers');
  } catch (error) {
    return fail('queue', `the Redis of QUEUE_REDIS_URL does not answer (${describe(error)})`, remedy);
  }
}
