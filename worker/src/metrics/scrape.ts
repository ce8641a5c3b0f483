/**
 * The gauges that need a query. They are updated when Prometheus scrapes, at most once in 3 s, and keep their value while the
 * database or the queue is away. A scrape waits at most 1 s for them: a late one would lose all metrics when they matter most.
 */

import type { Outbox } from '../db/outbox.ts';
import type { Pending } from '../db/pending.ts';
import { CachedQuery } from '../lib/cached-query.ts';
import { withPending } from '../queue/pending-work.ts';
import type { QueueSupervisor } from '../queue/supervisor.ts';
import type { Role } from '../wakeup/leader-election.ts';
import type { Metrics } from './metrics.ts';

/** Counting stops here: a scrape must not read a million rows. */
export const COUNT_TO = 100_000;
const CACHING = { freshMs: 3_000, waitMs: 1_000 };

export function createScrape(
  metrics: Pick<Metrics, 'outboxDepth' | 'outboxAge' | 'jobs'>,
  outbox: Pick<Outbox, 'backlog'>,
  queue: Pick<QueueSupervisor, 'use'>,
  pending: Pick<Pending, 'counts'>,
  role: () => Role,
): () => Promise<void> {
  const backlog = new CachedQuery(async () => {
    const { rows, oldestMs } = await outbox.backlog(COUNT_TO);
    metrics.outboxDepth.set(rows);
    metrics.outboxAge.set(oldestMs / 1000);
  }, CACHING);
  const jobs = new CachedQuery(async () => {
    const counts =
      role() === 'following'
        ? null
        : withPending(await queue.use((open) => open.counts()), await pending.counts());
    // A follower has no connection to the queue, and opens none for a scrape. What it saw as leader is out of date.
    if (counts === null || role() === 'following') metrics.jobs.reset();
    else for (const [state, count] of Object.entries(counts)) metrics.jobs.set({ state }, count);
  }, CACHING);
  return async () => {
    await Promise.all([backlog.latest(), jobs.latest()]);
  };
}
