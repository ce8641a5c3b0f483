/**
 * The names that the worker shares with the SQL of supabase/migrations. Each stands once in the SQL and once here.
 */

/** The schema of everything that Fencepost keeps in the database. */
export const SCHEMA = 'cache_invalidation';

/** The channel that wakes a sleeping worker. Its notifications carry no payload. */
export const CHANNEL = 'cache_invalidation';

/** Advisory lock: the sleeping worker holds it exclusively; a writer that need not notify holds it in shared mode. */
export const WAKE_LOCK = 461870001;

/** Advisory lock: held by the worker that leads, the only one that delivers. */
export const LEADER_LOCK = 461870002;

/** The role with exactly the rights that a worker needs. */
export const WORKER_ROLE = 'fencepost_worker';

/** A worker's sessions are called by this name, a colon and their purpose in pg_stat_activity. */
export const APPLICATION = 'fencepost';

/** The name of every worker's lock session: one while it is fit to lead, the other while it could not take over. */
export const LOCKS_APPLICATION = `${APPLICATION}:locks`;
export const UNFIT_APPLICATION = `${APPLICATION}:unfit`;

/** The schema of BullMQ's tables. */
export const QUEUE_SCHEMA = 'cache_invalidation_queue';
