/** The doorbell's transitions one by one, each against calls that are written down; doorbell-interleavings.test.ts has their sum. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Doorbell } from './sleep-protocol.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('Doorbell', () => {
  const parts = (changes: Partial<ConstructorParameters<typeof Doorbell>[0]> = {}) => {
    const calls: string[] = [];
    const listener = { listening: true };
    const doorbell = new Doorbell({
      session: {
        alive: true,
        tryBell: async () => {
          calls.push('try K');
          return true;
        },
        releaseBell: async () => {
          calls.push('release K');
          return true;
        },
      },
      listener,
      drain: async () => {
        calls.push('drain');
        return { rows: 0, retryInMs: null, dueInMs: null };
      },
      pollInMs: () => 5_000,
      onState: (state) => calls.push(state),
      onUnrung: () => calls.push('unrung'),
      ...changes,
    });
    return { doorbell, calls, listener };
  };

  it('takes K, drains once more, and only then sleeps', async () => {
    const { doorbell, calls } = parts();
    const run = doorbell.run();
    await vi.advanceTimersByTimeAsync(200);
    expect(calls.slice(calls.indexOf('try K'))).toEqual(['try K', 'settling', 'drain', 'asleep']);
    doorbell.end();
    await run;
  });

  it('keeps K on a single ring: one drain, and asleep again', async () => {
    const { doorbell, calls } = parts();
    const run = doorbell.run();
    await vi.advanceTimersByTimeAsync(200);
    calls.length = 0;
    doorbell.ring();
    await vi.advanceTimersByTimeAsync(1);
    expect(calls).toEqual(['drain', 'asleep']);
    doorbell.end();
    await run;
  });

  it('releases K when someone rings during the drain: writers in line behind NOTIFY never ring fast', async () => {
    let inLine = false;
    const { doorbell, calls } = parts({
      drain: async () => {
        calls.push('drain');
        if (!inLine) return { rows: 0, retryInMs: null, dueInMs: null };
        inLine = false;
        doorbell.ring();
        return { rows: 1, retryInMs: null, dueInMs: null };
      },
    });
    const run = doorbell.run();
    await vi.advanceTimersByTimeAsync(200);
    calls.length = 0;
    inLine = true;
    doorbell.ring();
    await vi.advanceTimersByTimeAsync(1);
    expect(calls.slice(0, 3)).toEqual(['drain', 'release K', 'awake']);
    doorbell.end();
    await run;
  });

  it('releases K when rings come fast, though never during a drain', async () => {
    const { doorbell, calls } = parts();
    const run = doorbell.run();
    await vi.advanceTimersByTimeAsync(200);
    doorbell.ring();
    await vi.advanceTimersByTimeAsync(1);
    calls.length = 0;
    for (let count = 0; count < 20; count++) {
      doorbell.ring();
      await vi.advanceTimersByTimeAsync(1);
    }
    expect(calls).toContain('release K');
    doorbell.end();
    await run;
  });

  it('awake, keeps the database busy for a fifth of the time at most', async () => {
    const began: number[] = [];
    const { doorbell } = parts({
      drain: async () => {
        began.push(performance.now());
        await new Promise((resolve) => setTimeout(resolve, 5));
        return { rows: 1, retryInMs: null, dueInMs: null };
      },
    });
    const run = doorbell.run();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(began.length).toBeGreaterThan(30);
    expect(began.length).toBeLessThanOrEqual(41);
    doorbell.end();
    await vi.advanceTimersByTimeAsync(30);
    await run;
  });

  it('releases K while Redis takes nothing, so that writers are not charged for rings in vain', async () => {
    let failing = false;
    const { doorbell, calls } = parts({
      drain: async () => {
        calls.push('drain');
        return { rows: 0, retryInMs: failing ? 1_000 : null, dueInMs: null };
      },
    });
    const run = doorbell.run();
    await vi.advanceTimersByTimeAsync(200);
    calls.length = 0;
    failing = true;
    doorbell.ring();
    await vi.advanceTimersByTimeAsync(1);
    expect(calls).toEqual(['drain', 'release K', 'awake', 'drain']);
    // Rings do not shorten the pause.
    doorbell.ring();
    await vi.advanceTimersByTimeAsync(500);
    expect(calls).toHaveLength(4);
    doorbell.end();
    await run;
  });

  it('never sleeps, nor touches K, without a session of its own', async () => {
    const { doorbell, calls } = parts({ session: null });
    const run = doorbell.run();
    await vi.advanceTimersByTimeAsync(2_000);
    expect(new Set(calls)).toEqual(new Set(['awake', 'drain']));
    doorbell.end();
    await run;
  });

  it('wakes up for a deferred target that is due, and calls that no missed ring', async () => {
    let due: number | null = 700;
    const { doorbell, calls } = parts({
      drain: async () => {
        calls.push('drain');
        const rows = due === null ? 1 : 0;
        return { rows, retryInMs: null, dueInMs: due };
      },
    });
    const run = doorbell.run();
    await vi.advanceTimersByTimeAsync(200);
    calls.length = 0;
    due = null;
    await vi.advanceTimersByTimeAsync(600);
    expect(calls.slice(0, 2)).toEqual(['drain', 'asleep']);
    expect(calls).not.toContain('unrung');
    doorbell.end();
    await run;
  });

  it('tells of rows that only the fallback poll found', async () => {
    let rows = 0;
    const { doorbell, calls } = parts({
      drain: async () => {
        const outcome = { rows, retryInMs: null, dueInMs: null };
        rows = 0;
        return outcome;
      },
    });
    const run = doorbell.run();
    await vi.advanceTimersByTimeAsync(200);
    rows = 3;
    await vi.advanceTimersByTimeAsync(5_100);
    expect(calls).toContain('unrung');
    doorbell.end();
    await run;
  });
});
