/**
 * The names that the worker shares with the SQL of supabase/migrations. Each stands once in the SQL and once here.
 */

/** The schema of everything that Fencepost keeps in the database. */
export const SCHEMA = 'cache_invalidation';

/** The doorbell's channel. Rings carry no payload. */
export const CHANNEL = 'cache_invalidation';

/** Advisory lock K, the doorbell: held by the worker that sleeps, shared by every writer that keeps silent. */
export const LOCK_BELL = 461870001;

/** Advisory lock S, leadership: held by the one worker that drains. */
export const LOCK_LEADER = 461870002;

/** The least-privileged role that may do all that a worker does. */
export const WORKER_ROLE = 'fencepost_worker';

/** How the sessions of a worker call themselves in pg_stat_activity. */
export const APPLICATION = 'fencepost';

/** The schema of BullMQ's Postgres backend, made by our migration. */
export const QUEUE_SCHEMA = 'cache_invalidation_queue';
