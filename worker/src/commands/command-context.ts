/**
 * What a one-shot command works with: the checked configuration, one connection to the database, Redis, and the queue when the
 * command uses it. Everything is closed however the command ends.
 */
import type pg from 'pg';
import { explainDatabaseError } from '../db/errors.ts';
import { commandPool } from '../db/pool.ts';
import { type Configuration, readConfiguration } from '../lib/config.ts';
import { WorkerError } from '../lib/errors.ts';
import { endsWithin } from '../lib/waiting.ts';
import { openBackend } from '../queue/backend.ts';
import { WorkQueue } from '../queue/work-queue.ts';
import { type CacheServer, connectUpstash } from '../redis/upstash.ts';

const CLOSE_WITHIN_MS = 3_000;

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
    // A peer that does not answer must not keep the command running.
    const closing = [(queue as WorkQueue | null)?.close(true), pool.end()];
    await endsWithin(CLOSE_WITHIN_MS, Promise.allSettled(closing));
  }
}
