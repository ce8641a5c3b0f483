/**
 * The overlap of pages, with an outbox and a Redis in which each step waits until the test lets it happen. That the rows
 * are right is tested with the real parts (tests/capture/drain.test.ts, tests/worker).
 */
import { describe, expect, it, vi } from 'vitest';
import type { Batch } from '../db/outbox.ts';
import { BatchRows } from '../db/outbox-batch.ts';
import { UpstashFailure } from '../redis/errors.ts';
import { Allowance } from '../redis/token-bucket.ts';
import type { CacheServer } from '../redis/upstash.ts';
import { Flow } from './health.ts';
import { Drain } from './loop.ts';

/** Page n is one row, number n; `pages` of them are there. */
function stand(pages: number, rests = false, isDue = false) {
  const steps: string[] = [];
  const waiting = new Map<string, { resolve(): void; reject(error: Error): void }>();
  const step = (name: string): Promise<void> => {
    steps.push(name);
    return new Promise((resolve, reject) => waiting.set(name, { resolve, reject }));
  };
  const happen = async (name: string, error?: Error): Promise<void> => {
    await vi.waitFor(() => expect([...waiting.keys()]).toContain(name), { interval: 1 });
    const { resolve, reject } = waiting.get(name) ?? { resolve: () => undefined, reject: () => undefined };
    waiting.delete(name);
    if (error === undefined) resolve();
    else reject(error);
    // Whatever follows from it has its turn.
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  };
  const claim = async (position: string | null): Promise<Batch> => {
    const page = position === null ? 0 : Number(position);
    await step(`claim ${page}`);
    const last = page >= pages - 1;
    const column = `{${page}}`;
    const rows = new BatchRows({
      xids: column,
      ids: column,
      targets: `{t:${page}}`,
      watchIds: '{1}',
      ops: '{u}',
      waitedUs: '{5}',
      errors: null,
    });
    return { rows, throttled: rests, position: String(page + 1), drained: last };
  };
  const drain = new Drain({
    cache: {
      del: async (keys: readonly string[]) => {
        await step(`del ${keys[0]?.slice(2)}`);
        return 0;
      },
    } as unknown as CacheServer,
    outbox: {
      claim,
      acknowledge: async (rows) => {
        await step(`acknowledge ${rows.ids}`);
      },
      nextDue: async () => (isDue && !steps.includes('settle') ? 0 : null),
      due: async () => ({ run: 'r', targets: [{ target: 't:due', watchId: 1, ageMs: 5 }] }),
      settle: async () => {
        steps.push('settle');
      },
      forgetThrottled: async () => null,
      moveThrottled: async (rows) => {
        await step(`rest ${rows.ids}`);
        return rows;
      },
      invalidateAll: async () => undefined,
    },
    queueBuffer: { take: () => undefined, room: async () => undefined, forget: () => undefined },
    replicaLagMs: 0,
    isolating: new Allowance(),
    flow: new Flow(),
    databaseUrl: 'postgres://unused',
    startEpoch: async () => undefined,
    onConfirmed: () => undefined,
    onWidened: () => undefined,
    onTrouble: () => undefined,
    onSetAside: () => undefined,
  });
  return { drain, steps, happen };
}

const away = () => new UpstashFailure('UPSTASH_TIMEOUT', 'Away.', 'wait');

describe('Drain', () => {
  it('claims the next page while this one is applied, and acknowledges in order', async () => {
    const { drain, steps, happen } = stand(3);
    const outcome = drain.untilEmpty();
    await happen('claim 0');
    expect(steps).toEqual(['claim 0', 'claim 1', 'del 0']);
    await happen('claim 1');
    expect(steps.slice(3)).toEqual(['claim 2', 'del 1']);
    // The second page is confirmed first: it waits for its turn.
    await happen('del 1');
    expect(steps).not.toContain('acknowledge {1}');
    await happen('claim 2');
    // Two pages in hand: the third waits until one of them is done.
    expect(steps).not.toContain('del 2');
    await happen('del 0');
    await happen('acknowledge {0}');
    expect(steps.slice(-2).sort()).toEqual(['acknowledge {1}', 'del 2']);
    await happen('acknowledge {1}');
    await happen('del 2');
    await happen('acknowledge {2}');
    expect(await outcome).toMatchObject({ rows: 3, retryInMs: null });
    // Nothing is claimed beyond what was drained.
    expect(steps.filter((name) => name.startsWith('claim'))).toHaveLength(3);
  });

  it('claims all again after a failure, what it had claimed ahead included', async () => {
    const { drain, steps, happen } = stand(3);
    const outcome = drain.untilEmpty();
    await happen('claim 0');
    await happen('claim 1');
    await happen('claim 2');
    await happen('del 0', away());
    // The failed page's neighbour is waited for, and what Redis has not confirmed is not acknowledged.
    await happen('del 1');
    expect((await outcome).retryInMs).toBeGreaterThan(0);
    expect(steps.some((name) => name.startsWith('acknowledge'))).toBe(false);
    steps.length = 0;
    void drain.untilEmpty();
    expect(steps).toEqual(['claim 0']);
  });

  it('asks what must rest of a page only when the page before is acknowledged', async () => {
    const { drain, steps, happen } = stand(2, true);
    const outcome = drain.untilEmpty();
    for (const name of ['claim 0', 'rest {0}', 'claim 1', 'del 0', 'acknowledge {0}', 'rest {1}', 'del 1'])
      await happen(name);
    await happen('acknowledge {1}');
    expect((await outcome).rows).toBe(2);
    expect(steps.indexOf('rest {1}')).toBeGreaterThan(steps.indexOf('acknowledge {0}'));
  });

  it('runs what is due between pages: a long backlog does not hold it up', async () => {
    const { drain, steps, happen } = stand(3, false, true);
    const outcome = drain.untilEmpty();
    for (const name of ['claim 0', 'del 0', 'acknowledge {0}', 'del due']) await happen(name);
    await vi.waitFor(() => expect(steps).toContain('settle'), { interval: 1 });
    for (const page of [1, 2]) {
      for (const name of [`claim ${page}`, `del ${page}`, `acknowledge {${page}}`]) await happen(name);
    }
    expect((await outcome).rows).toBe(4);
  });

  it('when abandoned begins no page, and counts the one that was claimed ahead as never handed out', async () => {
    const { drain, steps, happen } = stand(3);
    const outcome = drain.untilEmpty();
    await happen('claim 0');
    drain.abandon();
    await happen('claim 1');
    await happen('del 0');
    await happen('acknowledge {0}');
    await outcome;
    expect(steps).toEqual(['claim 0', 'claim 1', 'del 0', 'acknowledge {0}']);
  });
});
