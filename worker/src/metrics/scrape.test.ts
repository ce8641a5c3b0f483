import { describe, expect, it } from 'vitest';
import type { QueueSupervisor } from '../queue/supervisor.ts';
import type { Role } from '../wakeup/leader-election.ts';
import { Metrics } from './metrics.ts';
import { createScrape } from './scrape.ts';

const COUNTS = { waiting: 1, active: 0, delayed: 2, failed: 3 };

function fixture(parts: { backlog?: () => Promise<{ rows: number; oldestMs: number }> } = {}) {
  const metrics = new Metrics();
  const state: { role: Role; queries: number } = { role: 'leading', queries: 0 };
  const outbox = { backlog: parts.backlog ?? (async () => ({ rows: 7, oldestMs: 2_000 })) };
  const queue = {
    use: async () => {
      state.queries++;
      return COUNTS;
    },
  };
  const pending = { counts: async () => ({ due: 1, later: 2, failed: 4 }) };
  const scrape = () =>
    createScrape(
      metrics,
      outbox,
      queue as unknown as Pick<QueueSupervisor, 'use'>,
      pending,
      () => state.role,
    )();
  return { metrics, state, scrape, text: async () => (await metrics.text()).text };
}

describe('a scrape', () => {
  it('shows the outbox and the queue', async () => {
    const { scrape, text } = fixture();
    await scrape();
    expect(await text()).toMatch(/^fencepost_outbox_rows 7$/m);
    expect(await text()).toMatch(/^fencepost_outbox_oldest_seconds 2$/m);
    expect(await text()).toContain('fencepost_queue_jobs{state="failed"} 7');
  });

  it('answers while the database does not', async () => {
    const { scrape, text } = fixture({ backlog: () => new Promise(() => undefined) });
    await scrape();
    expect(await text()).toContain('fencepost_queue_jobs{state="failed"} 7');
  });

  it('shows no dead letters once the worker follows, and then asks no queue', async () => {
    const { scrape, state, text } = fixture();
    await scrape();
    state.role = 'following';
    await scrape();
    expect(await text()).not.toContain('fencepost_queue_jobs{');
    expect(state.queries).toBe(1);
  });
});
