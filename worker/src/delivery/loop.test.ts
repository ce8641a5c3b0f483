/**
 * How batches overlap, with an outbox and a Redis in which each step waits until the test releases it. The statements themselves are
 * tested with the real parts (tests/capture/claim.test.ts, tests/worker).
 */
import { describe, expect, it, vi } from 'vitest';
import type { Batch } from '../db/outbox.ts';
import type { PendingTarget } from '../db/pending.ts';
import type { Unconfirmed } from '../db/pending-put.ts';
import { UpstashFailure } from '../redis/errors.ts';
import { TokenBucket } from '../redis/token-bucket.ts';
import type { CacheServer } from '../redis/upstash.ts';
import { DeliveryHealth } from './health.ts';
import { DeliveryLoop } from './loop.ts';

interface Options {
  /** The target of each batch; by default t:0, t:1 … */
  readonly target?: string;
  /** Its min_interval. */
  readonly intervalMs?: number;
  /** A throttled target is due. */
  readonly due?: PendingTarget;
  /** Another session has locked the row of a throttled target. */
  readonly locked?: boolean;
  readonly replicaLagMs?: number;
}

/** Batch n is the change of one transaction, number n. */
function setUp(batches: number, options: Options = {}) {
  const steps: string[] = [];
  const put: Unconfirmed[][] = [];
  const requests: number[] = [];
  const waiting = new Map<string, { resolve(): void; reject(error: Error): void }>();
  const step = (name: string): Promise<void> => {
    steps.push(name);
    return new Promise((resolve, reject) => waiting.set(name, { resolve, reject }));
  };
  const happen = async (name: string, error?: Error): Promise<void> => {
    await vi.waitFor(() => expect([...waiting.keys()]).toContain(name), { interval: 1, timeout: 20_000 });
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
    const target = options.target ?? `t:${batch}`;
    const intervalMs = options.intervalMs ?? null;
    const targets = [{ target, watchId: 1, op: 'u', ageMs: 5, error: null, intervalMs }];
    const isLast = batch >= batches - 1;
    return { xids: `{${batch}}`, changes: 1, targets, position: String(batch + 1), drained: isLast };
  };
  let due = options.due === undefined ? [] : [options.due];
  const loop = new DeliveryLoop({
    cache: {
      del: async (keys: readonly string[]) => {
        await step(`del ${keys[0]?.slice(2)}`);
        return 0;
      },
    } as unknown as CacheServer,
    outbox: {
      claim,
      acknowledge: async (xids, unconfirmed = []) => {
        await step(`acknowledge ${xids}`);
        put.push([...unconfirmed]);
        return options.locked && unconfirmed.some(({ why }) => why === 'throttled') ? null : 1;
      },
    },
    pending: {
      nextDueMs: async () => (due.length > 0 ? 0 : null),
      due: async () => due,
      put: async (unconfirmed) => {
        put.push([...unconfirmed]);
      },
      confirm: async (targets) => {
        steps.push(`confirm ${targets.map(({ id, version }) => `${id} in version ${version}`)}`);
        due = [];
        return targets.length;
      },
    },
    pendingWork: {
      request: (ms) => {
        if (ms < Infinity) requests.push(ms);
      },
    },
    replicaLagMs: options.replicaLagMs ?? 0,
    tokens: new TokenBucket(),
    health: new DeliveryHealth(),
    databaseUrl: 'postgres://unused',
    startEpoch: async () => undefined,
    onConfirmed: () => undefined,
    onWidened: () => undefined,
    onAcknowledged: () => undefined,
    onError: () => undefined,
    onPassedToQueue: () => undefined,
  });
  return { loop, steps, happen, put, requests };
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

  it('runs a throttled target of several batches once, and puts the others aside without a DEL', async () => {
    const { loop, steps, happen, put, requests } = setUp(3, { target: 't:a', intervalMs: 60_000 });
    const outcome = loop.untilEmpty();
    for (const name of ['claim 0', 'claim 1', 'claim 2', 'del a', 'acknowledge {0}', 'acknowledge {1}'])
      await happen(name);
    await happen('acknowledge {2}');
    expect((await outcome).dueInMs).toBeGreaterThan(59_000);
    expect(steps.filter((name) => name === 'del a')).toHaveLength(1);
    const aside = [{ target: 't:a', why: 'throttled', waitMs: expect.closeTo(60_000, -3) }];
    expect(put).toEqual([[], aside, aside]);
    // They are the delivery loop's, not the queue's.
    expect(requests).toEqual([]);
  });

  it('acknowledges nothing that waits for a run which then fails', async () => {
    const { loop, steps, happen, put } = setUp(2, { target: 't:a', intervalMs: 60_000 });
    const outcome = loop.untilEmpty();
    for (const name of ['claim 0', 'claim 1']) await happen(name);
    await happen('del a', away());
    expect((await outcome).retryInMs).toBeGreaterThan(0);
    expect(put).toEqual([]);
    // Nothing has run, so the target runs at once.
    void loop.untilEmpty();
    steps.length = 0;
    await happen('claim 0');
    expect(steps).toContain('del a');
  });

  it('runs a throttled target at once when another session has locked its row', async () => {
    const { loop, happen, put } = setUp(2, { target: 't:a', intervalMs: 60_000, locked: true });
    const outcome = loop.untilEmpty();
    for (const name of ['claim 0', 'claim 1', 'del a', 'acknowledge {0}', 'acknowledge {1}', 'del a'])
      await happen(name);
    await happen('acknowledge {1}');
    await outcome;
    expect(put.map((unconfirmed) => unconfirmed.length)).toEqual([0, 1, 0]);
  });

  it('runs due targets between batches, and while none is in flight', async () => {
    const due = { id: '7', version: '700', target: 't:due', ageMs: 5, attempts: 0, state: null };
    const { loop, steps, happen } = setUp(3, { due });
    const outcome = loop.untilEmpty();
    await happen('claim 0');
    await happen('del 0');
    expect(steps).not.toContain('del due');
    await happen('acknowledge {0}');
    await happen('del due');
    await vi.waitFor(() => expect(steps).toContain('confirm 7 in version 700'), {
      interval: 1,
      timeout: 20_000,
    });
    for (const batch of [1, 2]) {
      for (const name of [`claim ${batch}`, `del ${batch}`, `acknowledge {${batch}}`]) await happen(name);
    }
    expect((await outcome).rows).toBe(4);
  });

  it('counts no due target as run whose DEL failed', async () => {
    const due = { id: '7', version: '700', target: 't:a', ageMs: 5, attempts: 0, state: null };
    const { loop, steps, happen, put } = setUp(1, { target: 't:a', intervalMs: 60_000, due });
    const outcome = loop.untilEmpty();
    for (const name of ['claim 0', 'del a', 'acknowledge {0}']) await happen(name);
    await happen('del a', away());
    expect((await outcome).retryInMs).toBeGreaterThan(0);
    expect(steps).not.toContain('confirm 7 in version 700');
    // A further event runs at once.
    void loop.untilEmpty();
    for (const name of ['claim 0', 'del a', 'acknowledge {0}']) await happen(name);
    expect(put).toEqual([[], []]);
  });

  it('leaves to the queue what Redis refuses of the due targets, and the second deletions of the others', async () => {
    const due = { id: '7', version: '700', target: 't:due', ageMs: 5, attempts: 0, state: null };
    const refused = setUp(1, { due });
    const outcome = refused.loop.untilEmpty();
    for (const name of ['claim 0', 'del 0', 'acknowledge {0}']) await refused.happen(name);
    const refusal = () => new UpstashFailure('UPSTASH_SERVER_ERROR', 'Refused.', 'bisect');
    await refused.happen('del due', refusal());
    await refused.happen('del ncepost:probe');
    await refused.happen('del due', refusal());
    await refused.happen('del ncepost:probe');
    await outcome;
    expect(refused.put).toEqual([[], [expect.objectContaining({ target: 't:due', why: 'refused' })]]);
    expect(refused.requests).toEqual([1_000]);

    const lagging = setUp(1, { due, replicaLagMs: 2_000 });
    const end = lagging.loop.untilEmpty();
    for (const name of ['claim 0', 'del 0', 'acknowledge {0}', 'del due']) await lagging.happen(name);
    await end;
    expect(lagging.put[0]).toEqual([{ target: 't:0', why: 'second delete', waitMs: 2_000 }]);
    expect(lagging.requests).toEqual([2_000, 2_000]);
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
