/**
 * What a worker test stands on: a database of its own, a Redis, the gateway, and the fences' watch. Targets are
 * organisations of the reference table `quotas`, written by one statement each.
 */
import pg from 'pg';
import { afterAll, afterEach, beforeAll } from 'vitest';
import { type Cache, type CacheOptions, createCache } from '../../../supabase/functions/_shared/cache.ts';
import { cloneDatabase } from '../../support/database.ts';
import { startUpstash, TOKEN, type Upstash } from '../../support/upstash.ts';
import { type FenceWatch, watchFences } from './fence-watch.ts';
import { killAllWorkers } from './worker-process.ts';

export { TOKEN };

export interface WorkerStack extends Upstash {
  readonly databaseUrl: string;
  readonly fences: FenceWatch;
  readonly sql: pg.Pool;
  /** The environment of a worker against this stack. */
  environment(changes?: Record<string, string>): Record<string, string>;
  /** A reader. It waits for Redis as long as a busy machine needs. */
  reader(options?: CacheOptions): Cache;
  /** A new organisation; its quota row is there and its fence armed. */
  organisations(count: number): Promise<string[]>;
  /** A committed write to each, in this order. */
  write(organisations: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export const fenceOf = (organisation: string): string => `fence:quota:${organisation}`;

let numbered = 0;

/** @param databaseUrl another database than a clone of the template, migrated; not dropped on close */
export async function startWorkerStack(databaseUrl?: string): Promise<WorkerStack> {
  const database =
    databaseUrl === undefined ? await cloneDatabase() : { url: databaseUrl, drop: async () => undefined };
  const { redis, gateway, stop } = await startUpstash();
  const fences = await watchFences(redis.url);
  const sql = new pg.Pool({ connectionString: database.url, max: 8 });
  sql.on('error', () => undefined);
  return {
    databaseUrl: database.url,
    redis,
    gateway,
    fences,
    sql,
    environment: (changes = {}) => ({
      DATABASE_URL: database.url,
      UPSTASH_REDIS_REST_URL: gateway.url,
      UPSTASH_REDIS_REST_TOKEN: TOKEN,
      ...changes,
    }),
    reader: (options = {}) =>
      createCache({ url: gateway.url, token: TOKEN, timeout: 10_000, log: () => undefined, ...options }),
    async organisations(count) {
      const names = Array.from({ length: count }, () => `org-${++numbered}`);
      // Set up without the outbox's knowledge: what is counted are the writes after this.
      const client = await sql.connect();
      try {
        await client.query('begin');
        await client.query(
          `insert into public.quotas (org_id, provider, model) select n, 'openai', 'gpt' from unnest($1::text[]) as n`,
          [names],
        );
        await client.query('delete from cache_invalidation.changes where xid = pg_current_xact_id()');
        await client.query('commit');
      } finally {
        client.release();
      }
      await fences.arm(names.map(fenceOf));
      return names;
    },
    async write(organisations) {
      for (const organisation of organisations) {
        await sql.query('update public.quotas set used = used + 1 where org_id = $1', [organisation]);
      }
    },
    async close() {
      await sql.end();
      await fences.close();
      await stop();
      await database.drop();
    },
  };
}

/** Registers the hooks of a file: one stack for all its tests, and workers that outlive none of them. */
export function useWorkerStack(): WorkerStack {
  const stack: Partial<WorkerStack> = {};
  beforeAll(async () => {
    Object.assign(stack, await startWorkerStack());
  });
  afterEach((test) => killAllWorkers(test));
  afterAll(() => stack.close?.());
  return stack as WorkerStack;
}
