/**
 * Where BullMQ keeps its jobs (a schema of the database, or the Redis of QUEUE_REDIS_URL), and BullMQ's two classes with the
 * options that all jobs share. Everything above this file is the same for both.
 */
import { createRequire } from 'node:module';
import {
  type BackendFactory,
  type ConnectionOptions,
  createNodeRedisClient,
  createRedisBackend,
  type IQueueBackend,
  type IRedisClient,
  type JobProgress,
  type JobsOptions,
  PostgresConnection,
  type PostgresConnectionOptions,
  PostgresQueueBackend,
  type Processor,
  Queue,
  type QueueBaseOptions,
  Worker,
} from 'bullmq';
import type pg from 'pg';
import { QUEUE_SCHEMA } from '../db/names.ts';
import { queuePool } from '../db/pool.ts';
import { type ExplainQueueError, explainPostgresQueue, explainRedisQueue } from './errors.ts';
import { installQueue } from './install.ts';
import { QUEUE_NAME, RETRY_ATTEMPTS, RETRY_FIRST_MS } from './jobs.ts';

export interface Backend {
  readonly kind: 'postgres' | 'redis';
  readonly factory: BackendFactory<IQueueBackend, ConnectionOptions>;
  /** Starts to install what the jobs are kept in; `ready` waits for it. */
  install(): void;
  /** Resolves when a call may be made. Rejects while the server is known to be away, instead of keeping calls for later. */
  ready(): Promise<void>;
  /** What a failure of a call means. */
  readonly explain: ExplainQueueError;
  /** To be called after every queue and worker on it is closed. */
  close(): Promise<void>;
}

/** @param onError told of idle connections that break; those in use report to their caller */
export function openBackend(
  where: { readonly databaseUrl: string; readonly queueRedisUrl: string | undefined },
  onError: (error: Error) => void,
): Backend {
  return where.queueRedisUrl === undefined
    ? postgresBackend(where.databaseUrl, onError)
    : redisBackend(where.queueRedisUrl, onError);
}

/**
 * BullMQ takes the schema only from a configuration object, and then sets the search path through a start-up option, which
 * Supabase's pooler drops. Our own pool sets the search path on each connection (db/pool.ts); this class names the schema.
 */
class SchemaConnection extends PostgresConnection {
  override readonly schema: string = QUEUE_SCHEMA;
}

function postgresBackend(url: string, onError: (error: Error) => void): Backend {
  const pool: pg.Pool = queuePool(url, onError);
  let installed: Promise<void> = Promise.resolve();
  return {
    kind: 'postgres',
    factory: (name, options, { withBlockingConnection = false } = {}) => {
      // BullMQ describes the part of a pool that it uses in types of its own.
      const connection = new SchemaConnection(pool as unknown as PostgresConnectionOptions);
      return new PostgresQueueBackend(
        connection,
        name,
        options as unknown as QueueBaseOptions<PostgresConnectionOptions>,
        true,
        withBlockingConnection ? name : undefined,
      );
    },
    install: () => {
      installed = installQueue(url);
      installed.catch(() => undefined);
    },
    explain: (error) => explainPostgresQueue(error, url),
    // The pool connects when it is used, and fails at once when it cannot.
    ready: () => installed,
    close: () => pool.end(),
  };
}

function redisBackend(url: string, onError: (error: Error) => void): Backend {
  // One connection for queue and worker; BullMQ makes a second, blocking one from it. The client reconnects by itself and
  // keeps commands until then. BullMQ's own loops expect that; a caller that waits for an answer does not.
  const client = redisClient(url);
  let failure: Error | null = null;
  let refuse: (error: Error) => void = () => undefined;
  const failed = new Promise<never>((_, reject) => {
    refuse = reject;
  });
  failed.catch(() => undefined);
  client.on('ready', () => {
    failure = null;
  });
  client.on('error', (error: Error) => {
    failure = error;
    refuse(error);
    onError(error);
  });
  const connecting = client.connect();
  connecting.catch(onError);
  const connection = outliveListeners(createNodeRedisClient(client)) as unknown as ConnectionOptions;
  return {
    kind: 'redis',
    factory: (name, options, parts) => createRedisBackend(name, { ...options, connection }, parts),
    install: () => undefined,
    explain: explainRedisQueue,
    ready: async () => {
      if (client.isReady) return;
      if (failure !== null) throw failure;
      await Promise.race([connecting, failed]);
    },
    close: async () => {
      if (client.isOpen) client.destroy();
      await Promise.allSettled([connecting]);
    },
  };
}

/**
 * Keeps an `error` listener on a client and on every copy of it. BullMQ 6.7 takes its own away when it closes a connection, while
 * the client may still be reconnecting; its next error would have no listener, and that ends the process.
 */
export function outliveListeners(client: IRedisClient): IRedisClient {
  client.on('error', () => undefined);
  const duplicate = client.duplicate.bind(client);
  client.duplicate = (...options) => outliveListeners(duplicate(...options));
  return client;
}

/** Loaded only where it is used: it takes 25 MB, and most workers keep their jobs in the database. */
function redisClient(url: string) {
  const { createClient } = createRequire(import.meta.url)('redis') as typeof import('redis');
  return createClient({ url });
}

const JOB_OPTIONS = {
  // A finished job leaves nothing. A failed one stays until it is retried or pruned.
  removeOnComplete: true,
  removeOnFail: false,
  attempts: RETRY_ATTEMPTS,
  backoff: { type: 'exponential', delay: RETRY_FIRST_MS, jitter: 0.25 },
} as const satisfies JobsOptions;

export type JobQueue = ReturnType<typeof createJobQueue>;
export type JobWorker = ReturnType<typeof createJobWorker>;

// BullMQ's options demand a connection, which the backend's factory ignores.
export function createJobQueue(backend: Backend) {
  return new Queue<unknown, unknown, string, unknown, unknown, string, IQueueBackend, ConnectionOptions>(
    QUEUE_NAME,
    { connection: {}, defaultJobOptions: JOB_OPTIONS },
    backend.factory,
  );
}

export function createJobWorker(backend: Backend, perform: Processor<unknown, unknown, string>) {
  return new Worker<unknown, unknown, string, IQueueBackend, JobProgress, ConnectionOptions>(
    QUEUE_NAME,
    perform,
    { connection: {}, concurrency: 4, maxStalledCount: RETRY_ATTEMPTS, name: 'worker' },
    backend.factory,
  );
}
