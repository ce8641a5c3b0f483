/**
 * How the worker connects to Postgres: timeouts on everything, TCP keepalive, a name in pg_stat_activity, and a budget
 * of six connections in all (two for the drain, one that listens, one that holds the locks, two for the queue).
 */
import pg from 'pg';
import { APPLICATION, QUEUE_SCHEMA } from './names.ts';

/** Milliseconds until an attempt to connect counts as failed. */
const CONNECT_TIMEOUT_MS = 5_000;

/** Milliseconds that a statement of the worker may take; all are short. */
const STATEMENT_TIMEOUT_MS = 15_000;

/**
 * What the server itself ends, before the client gives up: else the backend would go on without anybody, with its locks and
 * its place among max_connections, and the worker would learn nothing of why. A session whose worker has vanished is
 * found within about 11 s, also where an answer to it was never confirmed.
 */
const SERVER_LIMITS = [
  'set lock_timeout = 5000',
  'set statement_timeout = 12000',
  'set tcp_keepalives_idle = 5',
  'set tcp_keepalives_interval = 2',
  'set tcp_keepalives_count = 3',
  'set tcp_user_timeout = 11000',
];

/**
 * Whatever the database's or the role's default is. A serializable claim would read the outbox in a way that makes Postgres
 * abort the application's own serializable transactions, which write it.
 */
const READ_COMMITTED = "set default_transaction_isolation = 'read committed'";

/**
 * @param purpose shown in pg_stat_activity after `fencepost:`
 * @param answerWithinMs the connection counts as dead when a query has no answer after this many milliseconds
 */
export function clientOptions(
  url: string,
  purpose: string,
  answerWithinMs = STATEMENT_TIMEOUT_MS,
): pg.ClientConfig {
  return {
    connectionString: url,
    application_name: `${APPLICATION}:${purpose}`,
    keepAlive: true,
    keepAliveInitialDelayMillis: 5_000,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    query_timeout: answerWithinMs,
  };
}

/**
 * The drain's connections: one claims and one deletes. A commit here need not wait for the disk: losing it in a crash
 * means that a row is applied twice, which is harmless.
 */
export function drainPool(url: string, onError: (error: Error) => void): pg.Pool {
  return pool({ ...clientOptions(url, 'drain'), max: 2, idleTimeoutMillis: 0 }, onError, [
    ...SERVER_LIMITS,
    'set synchronous_commit = off',
    // Planning anew for each set of parameters takes longer than running. And a plan made while the outbox was small must
    // not be a sequential scan when it no longer is: claim() is merged into the query, so its settings are the session's.
    'set plan_cache_mode = force_generic_plan',
    'set enable_seqscan = off',
    'set enable_bitmapscan = off',
    'set jit = off',
  ]);
}

/** BullMQ's connections: one that listens and one that works. Its SQL finds its tables through the search path. */
export function queuePool(url: string, onError: (error: Error) => void): pg.Pool {
  return pool({ ...clientOptions(url, 'queue', 30_000), max: 2, idleTimeoutMillis: 0 }, onError, [
    `set search_path = ${QUEUE_SCHEMA}`,
  ]);
}

/** One connection for a command that runs once. */
export function commandPool(url: string): pg.Pool {
  return pool({ ...clientOptions(url, 'command'), max: 1 }, () => undefined, []);
}

function pool(options: pg.PoolConfig, onError: (error: Error) => void, setup: readonly string[]): pg.Pool {
  const result = new pg.Pool({
    ...options,
    // Runs before the pool hands a new connection to anybody, so no query can overtake it.
    onConnect: async (client: pg.ClientBase) => {
      await client.query([READ_COMMITTED, ...setup].join(';\n'));
    },
  });
  // An idle connection that breaks is reported here; unheard, it would end the process.
  result.on('error', onError);
  // One that breaks while in use is reported to its query; its own 'error' event needs a listener all the same.
  result.on('connect', (client) => client.on('error', () => undefined));
  return result;
}
