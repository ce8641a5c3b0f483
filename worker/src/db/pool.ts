/**
 * The worker's connections to Postgres: six in all. Two deliver, one listens, one holds the locks, two serve the queue.
 * Each has timeouts, TCP keepalive and a name in pg_stat_activity.
 */
import pg from 'pg';
import { APPLICATION, QUEUE_SCHEMA } from './names.ts';

/** Milliseconds that an attempt to connect may take. */
const CONNECT_TIMEOUT_MS = 5_000;

/** Milliseconds that a statement of the worker may take; all are short. */
const STATEMENT_TIMEOUT_MS = 15_000;

/**
 * The server's limits are shorter than the client's, so that the server ends a statement first: it then says why, and no
 * backend goes on with its locks after the client has given up. The server finds a session whose worker has vanished within
 * about 11 s, also while it waits for a TCP acknowledgement.
 */
const SERVER_LIMITS = [
  // The database's own limit for idle sessions would end the pool's.
  'set idle_session_timeout = 0',
  'set lock_timeout = 5000',
  'set statement_timeout = 12000',
  'set tcp_keepalives_idle = 5',
  'set tcp_keepalives_interval = 2',
  'set tcp_keepalives_count = 3',
  'set tcp_user_timeout = 11000',
];

/**
 * The default of the database or the role may be another one. If the claim were serializable, Postgres would abort the
 * application's own serializable transactions, because they write the outbox that the claim reads.
 */
const READ_COMMITTED = "set default_transaction_isolation = 'read committed'";

/**
 * @param purpose shown in pg_stat_activity after `fencepost:`
 * @param answerWithinMs milliseconds after which a query without an answer fails
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

/** Does the work on a connection of its own, and ends it. */
export async function withClient<T>(
  options: pg.ClientConfig,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = new pg.Client(options);
  // A broken connection fails the query in progress; the event itself needs a listener.
  client.on('error', () => undefined);
  try {
    await client.connect();
    return await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/**
 * The connections of delivery: one claims and one acknowledges. Commits do not wait for the disk: if a crash loses one, a row
 * is applied twice, which is harmless.
 */
export function deliveryPool(url: string, onError: (error: Error) => void): pg.Pool {
  return pool({ ...clientOptions(url, 'drain'), max: 2, idleTimeoutMillis: 0 }, onError, [
    ...SERVER_LIMITS,
    'set synchronous_commit = off',
    // Planning takes longer than running, so one generic plan serves all parameters. A plan that was made while the outbox was
    // small must not be a sequential scan. Postgres inlines claim() into the query, so its settings must be the session's.
    'set plan_cache_mode = force_generic_plan',
    'set enable_seqscan = off',
    'set enable_bitmapscan = off',
    'set jit = off',
  ]);
}

/**
 * Opens all connections that a pool may have, and waits for none that is in use. One that cannot be had now is opened when it
 * is needed.
 */
export async function openConnections(pool: pg.Pool): Promise<void> {
  const most = pool.options.max ?? 0;
  if (pool.totalCount >= most) return;
  const free = most - (pool.totalCount - pool.idleCount);
  const clients = await Promise.allSettled(Array.from({ length: free }, () => pool.connect()));
  for (const client of clients) if (client.status === 'fulfilled') client.value.release();
}

/** BullMQ's connections: one listens and one works. BullMQ's SQL finds its tables through the search path. */
export function queuePool(url: string, onError: (error: Error) => void): pg.Pool {
  return pool({ ...clientOptions(url, 'queue', 30_000), max: 2, idleTimeoutMillis: 0 }, onError, [
    `set search_path = ${QUEUE_SCHEMA}`,
    // Shorter than the queue's own limit for a call, which then says that a lock is in the way.
    'set lock_timeout = 4000',
    'set idle_session_timeout = 0',
  ]);
}

/** The one connection of a command. */
export function commandPool(url: string): pg.Pool {
  return pool({ ...clientOptions(url, 'command'), max: 1 }, () => undefined, SERVER_LIMITS);
}

function pool(options: pg.PoolConfig, onError: (error: Error) => void, setup: readonly string[]): pg.Pool {
  const result = new pg.Pool({
    ...options,
    // The pool waits for this before it hands out the connection.
    onConnect: async (client: pg.ClientBase) => {
      await client.query([READ_COMMITTED, ...setup].join(';\n'));
    },
  });
  // Without a listener, an idle connection that breaks would end the process.
  result.on('error', onError);
  // A connection that breaks in use fails its query; its own 'error' event needs a listener all the same.
  result.on('connect', (client) => client.on('error', () => undefined));
  return result;
}
