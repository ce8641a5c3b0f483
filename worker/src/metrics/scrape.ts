/**
 * The gauges that cost a query: read when Prometheus asks, at most once in a few seconds, and left as they were when the
 * database or the queue is away or slow (that itself is in other metrics): a scrape waits a second at most, since one that
 * is late loses all metrics just when they are wanted.
 */

import { CachedQuery } from '../lib/cached-query.ts';
import type { QueueSupervisor } from '../queue/supervisor.ts';
import type { Role } from '../wakeup/leader-election.ts';
import type { Context } from '../worker/context.ts';

/** Counting stops here: a scrape must not read a million rows. */
export const COUNT_TO = 100_000;
const WHEN = { freshMs: 3_000, waitMs: 1_000 };

export function createScrape(
  { metrics, outbox }: Pick<Context, 'metrics' | 'outbox'>,
  queue: Pick<QueueSupervisor, 'use'>,
  role: () => Role,
): () => Promise<void> {
  const backlog = new CachedQuery(async () => {
    const { rows, oldestMs } = await outbox.backlog(COUNT_TO);
    metrics.outboxDepth.set(rows);
    metrics.outboxAge.set(oldestMs / 1000);
  }, WHEN);
  const jobs = new CachedQuery(async () => {
    const counts = role() === 'following' ? null : await queue.use((open) => open.counts());
    // A follower holds no connection for the queue, and does not open one for a scrape: it has nothing to say, also of
    // what it saw while it led.
    if (counts === null || role() === 'following') metrics.jobs.reset();
    else for (const [state, count] of Object.entries(counts)) metrics.jobs.set({ state }, count);
  }, WHEN);
  return async () => {
    await Promise.all([backlog.latest(), jobs.latest()]);
  };
}
