/**
 * How batches overlap, with an outbox and a Redis in which each step waits until the test releases it. The rows themselves are
 * tested with the real parts (tests/capture/claim.test.ts, tests/worker).
 */
import { describe, expect, it, vi } from 'vitest';
import type { Batch } from '../db/outbox.ts';
import { BatchRows } from '../db/outbox-batch.ts';
import { UpstashFailure } from '../redis/errors.ts';
import { TokenBucket } from '../redis/token-bucket.ts';
import type { CacheServer } from '../redis/upstash.ts';
import { DeliveryHealth } from './health.ts';
import { DeliveryLoop } from './loop.ts';

/** Batch n is one row, number n. */
function setUp(batches: number, throttled = false, isDue = false) {
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
    // Let everything that follows run.
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  };
  const claim = async (position: string | null): Promise<Batch> => {
    const batch = position === null ? 0 : Number(position);
    await step(`claim ${batch}`);
    const isLast = batch >= batches - 1;
    const column = `{${batch}}`;
    const rows = new BatchRows({
      xids: column,
      ids: column,
      targets: `{t:${batch}}`,
      watchIds: '{1}',
      ops: '{u}',
      waitedUs: '{5}',
      errors: null,
    });
    return { rows, throttled, position: String(batch + 1), drained: isLast };
  };
  const loop = new DeliveryLoop({
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
    pendingWork: { request: () => undefined },
    replicaLagMs: 0,
    tokens: new TokenBucket(),
    health: new DeliveryHealth(),
    databaseUrl: 'postgres://unused',
    startEpoch: async () => undefined,
    onConfirmed: () => undefined,
    onWidened: () => undefined,
    onError: () => undefined,
    onPassedToQueue: () => undefined,
  });
  return { loop, steps, happen };
}

const away = () => new UpstashFailure('UPSTASH_TIMEOUT', 'Away.', 'wait');

describe('DeliveryLoop', () => {
  it('claims the next batch while this one is applied, and acknowledges in order', async () => {
    const { loop, steps, happen } = setUp(3);
    const outcome = loop.untilEmpty();
    await happen('claim 0');
    expect(steps).toEqual(['claim 0', 'claim 1', 'del 0']);
    await happen('claim 1');
    expect(steps.slice(3)).toEqual(['claim 2', 'del 1']);
    // The second batch is confirmed first: its acknowledgement waits.
    await happen('del 1');
    expect(steps).not.toContain('acknowledge {1}');
    await happen('claim 2');
    // Two batches in flight: the third waits until one of them is done.
    expect(steps).not.toContain('del 2');
    await happen('del 0');
    await happen('acknowledge {0}');
    expect(steps.slice(-2).sort()).toEqual(['acknowledge {1}', 'del 2']);
    await happen('acknowledge {1}');
    await happen('del 2');
    await happen('acknowledge {2}');
    expect(await outcome).toMatchObject({ rows: 3, retryInMs: null });
    // Nothing is claimed after the last batch.
    expect(steps.filter((name) => name.startsWith('claim'))).toHaveLength(3);
  });

  it('claims everything again after a failure, including what it had claimed ahead', async () => {
    const { loop, steps, happen } = setUp(3);
    const outcome = loop.untilEmpty();
    await happen('claim 0');
    await happen('claim 1');
    await happen('claim 2');
    await happen('del 0', away());
    // The other batch is waited for, and what Redis has not confirmed is not acknowledged.
    await happen('del 1');
    expect((await outcome).retryInMs).toBeGreaterThan(0);
    expect(steps.some((name) => name.startsWith('acknowledge'))).toBe(false);
    steps.length = 0;
    void loop.untilEmpty();
    expect(steps).toEqual(['claim 0']);
  });

  it('throttles a batch only after the one before is acknowledged', async () => {
    const { loop, steps, happen } = setUp(2, true);
    const outcome = loop.untilEmpty();
    for (const name of ['claim 0', 'rest {0}', 'claim 1', 'del 0', 'acknowledge {0}', 'rest {1}', 'del 1'])
      await happen(name);
    await happen('acknowledge {1}');
    expect((await outcome).rows).toBe(2);
    expect(steps.indexOf('rest {1}')).toBeGreaterThan(steps.indexOf('acknowledge {0}'));
  });

  it('runs due targets between batches: a long backlog does not delay them', async () => {
    const { loop, steps, happen } = setUp(3, false, true);
    const outcome = loop.untilEmpty();
    for (const name of ['claim 0', 'del 0', 'acknowledge {0}', 'del due']) await happen(name);
    await vi.waitFor(() => expect(steps).toContain('settle'), { interval: 1 });
    for (const batch of [1, 2]) {
      for (const name of [`claim ${batch}`, `del ${batch}`, `acknowledge {${batch}}`]) await happen(name);
    }
    expect((await outcome).rows).toBe(4);
  });

  it('starts no batch once abandoned, and drops the one that was claimed ahead', async () => {
    const { loop, steps, happen } = setUp(3);
    const outcome = loop.untilEmpty();
    await happen('claim 0');
    loop.abandon();
    await happen('claim 1');
    await happen('del 0');
    await happen('acknowledge {0}');
    await outcome;
    expect(steps).toEqual(['claim 0', 'claim 1', 'del 0', 'acknowledge {0}']);
  });
});
