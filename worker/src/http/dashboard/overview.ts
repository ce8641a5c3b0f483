/**
 * What the dashboard shows. However many people look, it queries the database at most every 3 s and Redis at most every 30 s, with
 * three billed commands (25 the first time); and nothing while nobody looks.
 */

import type pg from 'pg';
import type { Pending } from '../../db/pending.ts';
import { RecordedDay } from '../../diagnostics/status/recorded-day.ts';
import {
  type CacheState,
  type DatabaseState,
  readCacheState,
  readDatabaseState,
} from '../../diagnostics/status/status.ts';
import { CachedQuery, type CachedResult } from '../../lib/cached-query.ts';
import type { Metrics } from '../../metrics/metrics.ts';
import type { RecentLatency } from '../../metrics/recent-latency.ts';
import { COUNT_TO } from '../../metrics/scrape.ts';
import { withPending } from '../../queue/pending-work.ts';
import type { QueueSupervisor } from '../../queue/supervisor.ts';
import type { QueueCounts } from '../../queue/work-queue.ts';
import type { CacheServer } from '../../redis/upstash.ts';
import type { Role } from '../../wakeup/leader-election.ts';
import type { Readiness } from '../readiness.ts';

const DATABASE_CACHING = { freshMs: 3_000, waitMs: 1_000 };
/** A page that is open for a whole month costs 260 000 commands, 52 cents. */
const REDIS_CACHING = { freshMs: 30_000, waitMs: 1_000 };

export interface Overview {
  readonly readiness: Readiness;
  /** Null until the database has answered once. */
  readonly database: CachedResult<DatabaseState> | null;
  readonly queue: CachedResult<QueueCounts | null> | null;
  readonly cache: CachedResult<CacheState> | null;
  /** From the write to the confirmed DEL, of what this worker applied lately. */
  readonly latency: RecentLatency | null;
  /** Commands sent to Upstash since this worker's start. */
  readonly commands: number;
}

export interface OverviewParts {
  readonly pool: pg.Pool;
  readonly cache: CacheServer;
  readonly metrics: Pick<Metrics, 'recent' | 'commandCount'>;
  readonly queue: Pick<QueueSupervisor, 'use'>;
  readonly pending: Pick<Pending, 'counts'>;
  role(): Role;
  readiness(): Promise<Readiness>;
}

export function createOverview(parts: OverviewParts): () => Promise<Overview> {
  const { pool, cache, metrics } = parts;
  const database = new CachedQuery(() => readDatabaseState(pool, COUNT_TO), DATABASE_CACHING);
  // A follower has no connection to the queue: the leader's dashboard shows it.
  const jobs = new CachedQuery(
    async () =>
      parts.role() === 'following'
        ? null
        : withPending(await parts.queue.use((open) => open.counts()), await parts.pending.counts()),
    DATABASE_CACHING,
  );
  const day = new RecordedDay(cache);
  const cached = new CachedQuery(() => readCacheState(cache, day), REDIS_CACHING);
  return async () => {
    const [readiness, databaseState, counts, cacheState] = await Promise.all([
      parts.readiness(),
      database.latest(),
      jobs.latest(),
      cached.latest(),
    ]);
    return {
      readiness,
      database: databaseState,
      queue: counts,
      cache: cacheState,
      latency: metrics.recent.read(),
      commands: metrics.commandCount,
    };
  };
}
