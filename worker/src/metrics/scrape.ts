/**
 * The gauges that cost a query: read when Prometheus asks, at most once in a few seconds, and left as they were when the
 * database or the queue is away (that itself is in other metrics).
 */
import type { Context } from '../context.ts';
import type { Role } from '../doorbell/leadership.ts';
import type { QueueLife } from '../queue/queue-life.ts';

/** Counting stops here: a scrape must not read a million rows. */
const COUNT_TO = 100_000;
const FRESH_MS = 3_000;

export function createScrape(context: Context, queue: QueueLife, role: () => Role): () => Promise<void> {
  const { metrics, outbox } = context;
  let readAt = Number.NEGATIVE_INFINITY;
  return async () => {
    if (performance.now() - readAt < FRESH_MS) return;
    readAt = performance.now();
    const [backlog, jobs] = await Promise.allSettled([
      outbox.backlog(COUNT_TO),
      // A follower holds no connection for the queue, and does not open one for a scrape.
      role() === 'following' ? Promise.resolve(null) : queue.use((open) => open.counts()),
    ]);
    if (backlog.status === 'fulfilled') {
      metrics.outboxDepth.set(backlog.value.rows);
      metrics.outboxAge.set(backlog.value.oldestMs / 1000);
    }
    if (jobs.status === 'fulfilled' && jobs.value !== null) {
      for (const [state, count] of Object.entries(jobs.value)) metrics.jobs.set({ state }, count);
    }
  };
}
