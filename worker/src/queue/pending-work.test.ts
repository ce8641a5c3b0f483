/** When a run begins, and what counts as an attempt. What a confirmation deletes: tests/capture/pending.test.ts. */
import { describe, expect, it } from 'vitest';
import type { Kind, PendingTarget } from '../db/pending.ts';
import { UpstashFailure } from '../redis/errors.ts';
import { TokenBucket } from '../redis/token-bucket.ts';
import type { CacheServer } from '../redis/upstash.ts';
import { PendingWork } from './pending-work.ts';

const target = (name: string): PendingTarget => ({
  id: name,
  version: '1',
  target: name,
  ageMs: 0,
  attempts: 0,
  state: null,
});

/** One delivery of `due` for each kind; then nothing is due. */
function setUp(due: Partial<Record<Kind, PendingTarget[]>> = {}, cache: Partial<CacheServer> = {}) {
  const steps: string[] = [];
  const jobs: number[] = [];
  const failures: unknown[] = [];
  const state = { nextDueMs: null as number | null, adds: true };
  const work = new PendingWork({
    cache: { del: async () => 0, ...cache } as unknown as CacheServer,
    tokens: new TokenBucket(),
    startEpoch: async () => undefined,
    replicaLagMs: 0,
    pending: {
      due: async (kind) => {
        steps.push(`due ${kind}`);
        const found = due[kind] ?? [];
        due[kind] = [];
        return found;
      },
      nextDueMs: async (kind) => (kind === 'delete' ? state.nextDueMs : null),
      confirm: async (targets) => {
        if (targets.length > 0) steps.push(`confirm ${targets.map(({ id }) => id)}`);
        return targets.length;
      },
      refused: async (targets) => {
        if (targets.length > 0) steps.push(`refused ${targets.map(({ id }) => id)}`);
      },
      postpone: async () => undefined,
      save: async () => undefined,
    },
    add: async (delayMs) => {
      jobs.push(delayMs);
      if (!state.adds) throw new Error('away');
    },
    onError: (error) => failures.push(error),
  });
  return { work, steps, jobs, failures, state };
}

describe('PendingWork', () => {
  it('asks for one job while an earlier one has not begun, and for an earlier one when that is too late', async () => {
    const { work, jobs } = setUp();
    work.request(Infinity);
    work.request(60_000);
    work.request(90_000);
    expect(jobs).toEqual([60_000]);
    work.request(1_000);
    work.request(2_000);
    expect(jobs).toEqual([60_000, 1_000]);
    await work.run();
    work.request(2_000);
    expect(jobs).toEqual([60_000, 1_000, 2_000]);
  });

  it('asks for the next job when the next target is due, and not at all when none waits', async () => {
    const { work, jobs, state } = setUp();
    await work.run();
    expect(jobs).toEqual([]);
    state.nextDueMs = 7_000;
    await work.run();
    expect(jobs).toEqual([7_000]);
  });

  it('reads once more when it is called during a run, whose reading may be over', async () => {
    let goOn: () => void = () => undefined;
    const dels: string[] = [];
    const { work, steps } = setUp(
      { delete: [target('a:1')] },
      {
        del: (keys) => {
          dels.push(keys[0] ?? '');
          return new Promise((resolve) => {
            goOn = () => resolve(0);
          });
        },
      },
    );
    const running = work.run();
    await expect.poll(() => dels.length).toBe(1);
    await work.run();
    expect(steps.filter((step) => step === 'due delete')).toHaveLength(1);
    goOn();
    await running;
    expect(steps.filter((step) => step === 'due delete')).toHaveLength(2);
    expect(steps).toContain('confirm a:1');
  });

  it('says that the queue takes no job, and asks for one again with the next request', async () => {
    const { work, jobs, failures, state } = setUp();
    state.adds = false;
    work.request(0);
    await expect.poll(() => failures.length).toBe(1);
    state.adds = true;
    work.request(60_000);
    work.request(90_000);
    expect(jobs).toEqual([0, 60_000]);
  });

  it('forgets no earlier request because a later one failed', async () => {
    const { work, jobs, failures, state } = setUp();
    state.adds = false;
    work.request(60_000);
    state.adds = true;
    work.request(1_000);
    await expect.poll(() => failures.length).toBe(1);
    work.request(2_000);
    expect(jobs).toEqual([60_000, 1_000]);
  });

  it.each([
    ['of a server that serves is an attempt', true],
    ['of a server in trouble is none: it waits', false],
  ])('a refused sweep %s', async (_, serves) => {
    const refusal = new UpstashFailure('UPSTASH_SERVER_ERROR', 'Refused.', 'bisect');
    const { work, steps, jobs, failures } = setUp(
      { sweep: [target('a*:b:*')] },
      {
        scan: () => Promise.reject(refusal),
        // An exact target has no keys of its own here: only the probe key is deleted.
        del: (keys) => (serves || keys.length === 0 ? Promise.resolve(0) : Promise.reject(refusal)),
      },
    );
    await work.run();
    expect(steps.includes('refused a*:b:*')).toBe(serves);
    expect(steps).not.toContain('confirm a*:b:*');
    expect(failures).toMatchObject(serves ? [] : [{ course: 'wait' }]);
    expect(jobs).toEqual(serves ? [] : [5_000]);
  });
});
