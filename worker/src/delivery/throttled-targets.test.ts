/** What runs at once, what waits, and when that costs a query. What `pending` does with it: tests/capture/pending.test.ts. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ClaimedTarget } from '../db/outbox-batch.ts';
import { ThrottledTargets } from './throttled-targets.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});
const later = (ms: number) => vi.advanceTimersByTime(ms);

const event = (target: string, intervalMs: number | null): ClaimedTarget => ({
  target,
  watchId: 1,
  op: 'u',
  ageMs: 1,
  error: null,
  intervalMs,
});

function setUp(results: { nextDueMs?: () => number | null; due?: number } = {}) {
  const calls: string[] = [];
  let left = results.due ?? 0;
  const throttled = new ThrottledTargets({
    nextDueMs: async () => {
      calls.push('nextDueMs');
      return results.nextDueMs?.() ?? null;
    },
    due: async () => {
      calls.push('due');
      return left-- > 0 ? [{ id: '1', version: '1', target: 'due', ageMs: 1, attempts: 0, state: null }] : [];
    },
  });
  const split = (...events: ClaimedTarget[]) => {
    const { now, later: waiting } = throttled.split(events);
    return { now, later: [...waiting].map(([target, at]) => [target, at - performance.now()]) };
  };
  return { throttled, calls, split };
}

describe('a batch', () => {
  it('runs a target once at once, however many batches a burst fills, and again after its interval', () => {
    const { split } = setUp();
    expect(split(event('a', 1_000), event('b', null))).toEqual({ now: ['a', 'b'], later: [] });
    later(400);
    expect(split(event('a', 1_000), event('b', null))).toEqual({ now: ['b'], later: [['a', 600]] });
    expect(split(event('b', 1_000))).toEqual({ now: ['b'], later: [] });
    later(1_000);
    expect(split(event('b', 1_000))).toEqual({ now: ['b'], later: [] });
  });

  it('runs no target while an event of it waits, whose run serves all that come before', async () => {
    const { throttled, split } = setUp({ due: 1 });
    split(event('due', 1_000));
    later(400);
    expect(split(event('due', 1_000)).later).toEqual([['due', 600]]);
    later(700);
    expect(split(event('due', 1_000)).later).toEqual([['due', -100]]);
    await throttled.run(async (due) => due.length);
    expect(split(event('due', 1_000)).later).toEqual([['due', 1_000]]);
  });

  it('goes by the shortest interval of a target’s events, and an event without one runs', () => {
    const { split } = setUp();
    split(event('a', 60_000));
    later(2_000);
    expect(split(event('a', 60_000), event('a', 5_000))).toEqual({ now: [], later: [['a', 3_000]] });
    expect(split(event('a', 60_000), event('a', null))).toEqual({ now: ['a'], later: [] });
    // That was a run, too, and what waits goes on waiting.
    expect(split(event('a', 5_000)).later).toEqual([['a', 3_000]]);
  });

  it('does not count a run that failed', () => {
    const { throttled, split } = setUp();
    split(event('a', 1_000), event('b', 1_000));
    throttled.failed(['a']);
    expect(split(event('a', 1_000), event('b', 1_000))).toEqual({ now: ['a'], later: [['b', 1_000]] });
  });

  it('remembers 100 000 runs at most, the newest', () => {
    const { split } = setUp();
    const many = Array.from({ length: 100_000 }, (_, number) => event(`t:${number}`, 60_000));
    split(event('oldest', 60_000));
    split(...many);
    expect(split(event('oldest', 60_000)).now).toEqual(['oldest']);
    expect(split(event('t:99999', 60_000)).now).toEqual([]);
  });
});

describe('what waits', () => {
  it('is queried once a second at most, and what begins to wait here costs no query', async () => {
    const { throttled, calls } = setUp();
    for (let times = 0; times < 3; times++) expect(await throttled.areDue()).toBe(false);
    throttled.wait(new Map([['a', performance.now() + 300]]));
    expect(throttled.dueInMs).toBe(300);
    expect(calls).toEqual(['nextDueMs']);
    later(300);
    expect(await throttled.areDue()).toBe(true);
    later(700);
    await throttled.areDue();
    expect(calls).toEqual(['nextDueMs', 'nextDueMs']);
  });

  it('is not forgotten when it begins to wait during the query', async () => {
    const { throttled } = setUp({
      nextDueMs: () => {
        throttled.wait(new Map([['a', performance.now() + 50]]));
        return 9_000;
      },
    });
    await throttled.areDue();
    expect(throttled.dueInMs).toBe(50);
  });

  it('runs when it is due, and its further events wait for the interval', async () => {
    const dueMs = [0, null];
    const { throttled, split } = setUp({ nextDueMs: () => dueMs.shift() ?? null, due: 1 });
    expect(await throttled.areDue()).toBe(true);
    expect(await throttled.run(async (due) => due.length)).toBe(1);
    expect(throttled.dueInMs).toBeNull();
    expect(split(event('due', 1_000)).later).toEqual([['due', 1_000]]);
  });

  it('is looked for again when the database’s clock says that it is not quite due', async () => {
    const dueMs = [0, 3];
    const { throttled } = setUp({ nextDueMs: () => dueMs.shift() ?? null });
    expect(await throttled.areDue()).toBe(true);
    expect(await throttled.run(async () => 0)).toBe(0);
    expect(throttled.dueInMs).toBe(3);
  });

  it.each([
    ['another session has locked its row', 1],
    ['another worker was quicker', 0],
  ])('is not run in a loop: %s', async (_, due) => {
    const { throttled } = setUp({ nextDueMs: () => 0, due });
    expect(await throttled.areDue()).toBe(true);
    expect(await throttled.run(async () => 0)).toBe(due);
    expect(throttled.dueInMs).toBe(1_000);
  });

  it('runs on at once while all that ran is done: more is due than one run takes', async () => {
    const { throttled } = setUp({ nextDueMs: () => 0, due: 2 });
    await throttled.areDue();
    for (let runs = 0; runs < 2; runs++) {
      expect(await throttled.run(async (due) => due.length)).toBe(1);
      expect(throttled.dueInMs).toBe(0);
    }
  });
});
