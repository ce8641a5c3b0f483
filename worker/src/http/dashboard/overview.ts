/**
 * What the dashboard shows, and what looking costs: the database is asked at most every 3 s, Redis at most every 30 s (three
 * billed commands, the first time 25), however many people look; nothing while nobody does.
 */

import { RecordedDay } from '../../diagnostics/status/recorded-day.ts';
import {
  type CacheState,
  type DrainState,
  readCacheState,
  readDrainState,
} from '../../diagnostics/status/status.ts';
import { CachedQuery, type CachedResult } from '../../lib/cached-query.ts';
import type { RecentLatency } from '../../metrics/recent-latency.ts';
import type { QueueSupervisor } from '../../queue/supervisor.ts';
import type { QueueCounts } from '../../queue/work-queue.ts';
import type { Role } from '../../wakeup/leader-election.ts';
import type { Context } from '../../worker/context.ts';
import type { Readiness } from '../readiness.ts';

/** Counting stops here: a look must not read a million rows. */
export const COUNT_TO = 100_000;
const SOON = { freshMs: 3_000, waitMs: 1_000 };
/** A page that is seen for a whole month costs 260 000 commands, 52 cents. */
const SELDOM = { freshMs: 30_000, waitMs: 1_000 };

export interface Overview {
  readonly readiness: Readiness;
  /** Null until the database has answered once. */
  readonly drain: CachedResult<DrainState> | null;
  readonly queue: CachedResult<QueueCounts | null> | null;
  readonly cache: CachedResult<CacheState> | null;
  /** Of what this worker applied lately, from the write to the confirmed DEL. */
  readonly latency: RecentLatency | null;
  /** Commands sent to Upstash since this worker's start. */
  readonly commands: number;
}

export function createOverview(
  { pool, outbox, cache, metrics }: Context,
  queue: Pick<QueueSupervisor, 'use'>,
  role: () => Role,
  readiness: () => Promise<Readiness>,
): () => Promise<Overview> {
  const drain = new CachedQuery(() => readDrainState(pool, outbox, COUNT_TO), SOON);
  // A follower holds no connection for the queue: the leader's dashboard shows it.
  const jobs = new CachedQuery(
    async () => (role() === 'following' ? null : await queue.use((open) => open.counts())),
    SOON,
  );
  const day = new RecordedDay(cache);
  const cached = new CachedQuery(() => readCacheState(cache, day), SELDOM);
  return async () => {
    const [now, drainState, counts, cacheState] = await Promise.all([
      readiness(),
      drain.latest(),
      jobs.latest(),
      cached.latest(),
    ]);
    return {
      readiness: now,
      drain: drainState,
      queue: counts,
      cache: cacheState,
      latency: metrics.recent.read(),
      commands: metrics.commandCount,
    };
  };
}
