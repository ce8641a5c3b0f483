/**
 * The gauges that cost a query: read when Prometheus asks, at most once in a few seconds, and left as they were when the
 * database or the queue is away or slow (that itself is in other metrics): a scrape waits a second at most, since one that
 * is late loses all metrics just when they are wanted.
 */
import type { Context } from '../context.ts';
import { endsWithin } from '../deadline.ts';
import type { Role } from '../doorbell/leadership.ts';
import type { QueueLife } from '../queue/queue-life.ts';

/** Counting stops here: a scrape must not read a million rows. */
export const COUNT_TO = 100_000;
const FRESH_MS = 3_000;
const WAIT_MS = 1_000;

export function createScrape(
  { metrics, outbox }: Pick<Context, 'metrics' | 'outbox'>,
  queue: Pick<QueueLife, 'use'>,
  role: () => Role,
): () => Promise<void> {
  let readAt = Number.NEGATIVE_INFINITY;
  let backlogReading: Promise<void> | null = null;
  let jobsReading: Promise<void> | null = null;

  const readBacklog = async () => {
    const { rows, oldestMs } = await outbox.backlog(COUNT_TO);
    metrics.outboxDepth.set(rows);
    metrics.outboxAge.set(oldestMs / 1000);
  };
  const readJobs = async () => {
    const counts = role() === 'following' ? null : await queue.use((open) => open.counts());
    // A follower holds no connection for the queue, and does not open one for a scrape: it has nothing to say, also of
    // what it saw while it led.
    if (counts === null || role() === 'following') metrics.jobs.reset();
    else for (const [state, count] of Object.entries(counts)) metrics.jobs.set({ state }, count);
  };

  return async () => {
    if (performance.now() - readAt < FRESH_MS) return;
    readAt = performance.now();
    // One that is late is waited for again, not asked again.
    backlogReading ??= readBacklog()
      .catch(() => undefined)
      .finally(() => {
        backlogReading = null;
      });
    jobsReading ??= readJobs()
      .catch(() => undefined)
      .finally(() => {
        jobsReading = null;
      });
    await endsWithin(WAIT_MS, Promise.all([backlogReading, jobsReading]));
  };
}
