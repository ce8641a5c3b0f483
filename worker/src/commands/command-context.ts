/**
 * What a one-shot command works with: the checked configuration, one connection to the database, Redis, and the queue
 * when it is asked for. Everything is closed however the command ends.
 */
import type pg from 'pg';
import { type CacheServer, connectUpstash } from '../apply/upstash.ts';
import { type Configuration, readConfiguration } from '../configuration.ts';
import { commandPool } from '../database/connections.ts';
import { explainDatabaseError } from '../database/database-errors.ts';
import { WorkerError } from '../errors.ts';
import { openBackend } from '../queue/backend.ts';
import { WorkQueue } from '../queue/work-queue.ts';

export interface CommandContext {
  readonly configuration: Configuration;
  readonly pool: pg.Pool;
  readonly cache: CacheServer;
  /** Opens the queue's connections when first called. */
  queue(): WorkQueue;
}

/** @throws WorkerError; an error of the database comes out explained */
export async function withContext<T>(
  variables: NodeJS.ProcessEnv,
  work: (context: CommandContext) => Promise<T>,
): Promise<T> {
  const configuration = readConfiguration(variables);
  const pool = commandPool(configuration.databaseUrl);
  let queue: WorkQueue | null = null;
  try {
    return await work({
      configuration,
      pool,
      cache: connectUpstash(configuration),
      queue: () => {
        queue ??= new WorkQueue(
          openBackend(configuration, () => undefined),
          () => undefined,
        );
        return queue;
      },
    });
  } catch (error) {
    throw error instanceof WorkerError ? error : explainDatabaseError(error, configuration.databaseUrl);
  } finally {
    await (queue as WorkQueue | null)?.close(true).catch(() => undefined);
    await pool.end().catch(() => undefined);
  }
}
