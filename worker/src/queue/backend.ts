/**
 * Where BullMQ keeps its jobs: in the database, in a schema of its own made by our migration, or in the Redis of
 * QUEUE_REDIS_URL. Everything above this file is the same for both.
 */

import { createRequire } from 'node:module';
import {
  type BackendFactory,
  type ConnectionOptions,
  createRedisBackend,
  type IQueueBackend,
  PostgresConnection,
  type PostgresConnectionOptions,
  PostgresQueueBackend,
  type QueueBaseOptions,
} from 'bullmq';
import type pg from 'pg';
import { QUEUE_SCHEMA } from '../db/names.ts';
import { queuePool } from '../db/pool.ts';

export interface Backend {
  readonly kind: 'postgres' | 'redis';
  readonly factory: BackendFactory<IQueueBackend, ConnectionOptions>;
  /** Resolves when a call may be made; rejects while its server is known to be away, instead of keeping calls for later. */
  ready(): Promise<void>;
  /** After every queue and worker on it is closed. */
  close(): Promise<void>;
}

/**
 * BullMQ takes the schema from a configuration object only, and then sets the search path through a start-up option,
 * which Supabase's pooler drops. A pool of ours sets it on each connection (database/connections.ts); this names the schema.
 */
class SchemaConnection extends PostgresConnection {
  override readonly schema: string = QUEUE_SCHEMA;
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

function postgresBackend(url: string, onError: (error: Error) => void): Backend {
  const pool: pg.Pool = queuePool(url, onError);
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
    // The pool connects when it is used, and says at once when it cannot.
    ready: async () => undefined,
    close: () => pool.end(),
  };
}

function redisBackend(url: string, onError: (error: Error) => void): Backend {
  // One connection for queue and worker; BullMQ makes a second, blocking one of it. It reconnects by itself, and keeps
  // commands for when it has: BullMQ's own loops are made for that, a caller who waits for an answer is not.
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
  return {
    kind: 'redis',
    factory: (name, options, parts) =>
      createRedisBackend(name, { ...options, connection: client as unknown as ConnectionOptions }, parts),
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

/** Loaded only where it is used: it takes 25 MB, and most workers keep their jobs in the database. */
function redisClient(url: string) {
  const { createClient } = createRequire(import.meta.url)('redis') as typeof import('redis');
  return createClient({ url });
}
