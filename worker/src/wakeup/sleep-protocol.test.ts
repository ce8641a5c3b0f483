/** Each transition of the sleep protocol, checked by the calls it makes. sleep-protocol-interleavings.test.ts checks them together. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { SleepProtocol } from './sleep-protocol.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('SleepProtocol', () => {
  const parts = (changes: Partial<ConstructorParameters<typeof SleepProtocol>[0]> = {}) => {
    const calls: string[] = [];
    const listener = { listening: true };
    const protocol = new SleepProtocol({
      session: {
        alive: true,
        tryWakeLock: async () => {
          calls.push('try lock');
          return true;
        },
        releaseWakeLock: async () => {
          calls.push('release lock');
          return true;
        },
      },
      listener,
      deliver: async () => {
        calls.push('deliver');
        return { rows: 0, retryInMs: null, dueInMs: null };
      },
      pollInMs: () => 5_000,
      onState: (state) => calls.push(state),
      onUnnotified: () => calls.push('unnotified'),
      ...changes,
    });
    return { protocol, calls, listener };
  };

  it('takes WAKE_LOCK, delivers once more, and only then sleeps', async () => {
    const { protocol, calls } = parts();
    const run = protocol.run();
    await vi.advanceTimersByTimeAsync(200);
    expect(calls.slice(calls.indexOf('try lock'))).toEqual(['try lock', 'settling', 'deliver', 'asleep']);
    protocol.end();
    await run;
  });

  it('keeps WAKE_LOCK on a single notification: one delivery, then asleep again', async () => {
    const { protocol, calls } = parts();
    const run = protocol.run();
    await vi.advanceTimersByTimeAsync(200);
    calls.length = 0;
    protocol.notified();
    await vi.advanceTimersByTimeAsync(1);
    expect(calls).toEqual(['deliver', 'asleep']);
    protocol.end();
    await run;
  });

  it('releases WAKE_LOCK on a notification during the delivery: writers that wait for NOTIFY never notify fast', async () => {
    let waiting = false;
    const { protocol, calls } = parts({
      deliver: async () => {
        calls.push('deliver');
        if (!waiting) return { rows: 0, retryInMs: null, dueInMs: null };
        waiting = false;
        protocol.notified();
        return { rows: 1, retryInMs: null, dueInMs: null };
      },
    });
    const run = protocol.run();
    await vi.advanceTimersByTimeAsync(200);
    calls.length = 0;
    waiting = true;
    protocol.notified();
    await vi.advanceTimersByTimeAsync(1);
    expect(calls.slice(0, 3)).toEqual(['deliver', 'release lock', 'awake']);
    protocol.end();
    await run;
  });

  it('releases WAKE_LOCK when notifications come fast, though never during a delivery', async () => {
    const { protocol, calls } = parts();
    const run = protocol.run();
    await vi.advanceTimersByTimeAsync(200);
    protocol.notified();
    await vi.advanceTimersByTimeAsync(1);
    calls.length = 0;
    for (let count = 0; count < 20; count++) {
      protocol.notified();
      await vi.advanceTimersByTimeAsync(1);
    }
    expect(calls).toContain('release lock');
    protocol.end();
    await run;
  });

  it('awake, keeps the database busy for a fifth of the time at most', async () => {
    const began: number[] = [];
    const { protocol } = parts({
      deliver: async () => {
        began.push(performance.now());
        await new Promise((resolve) => setTimeout(resolve, 5));
        return { rows: 1, retryInMs: null, dueInMs: null };
      },
    });
    const run = protocol.run();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(began.length).toBeGreaterThan(30);
    expect(began.length).toBeLessThanOrEqual(41);
    protocol.end();
    await vi.advanceTimersByTimeAsync(30);
    await run;
  });

  it('releases WAKE_LOCK while Redis is away, so that writers do not pay for useless notifications', async () => {
    let failing = false;
    const { protocol, calls } = parts({
      deliver: async () => {
        calls.push('deliver');
        return { rows: 0, retryInMs: failing ? 1_000 : null, dueInMs: null };
      },
    });
    const run = protocol.run();
    await vi.advanceTimersByTimeAsync(200);
    calls.length = 0;
    failing = true;
    protocol.notified();
    await vi.advanceTimersByTimeAsync(1);
    expect(calls).toEqual(['deliver', 'release lock', 'awake', 'deliver']);
    // Notifications do not shorten the pause.
    protocol.notified();
    await vi.advanceTimersByTimeAsync(500);
    expect(calls).toHaveLength(4);
    protocol.end();
    await run;
  });

  it('never sleeps and never takes WAKE_LOCK without a session of its own', async () => {
    const { protocol, calls } = parts({ session: null });
    const run = protocol.run();
    await vi.advanceTimersByTimeAsync(2_000);
    expect(new Set(calls)).toEqual(new Set(['awake', 'deliver']));
    protocol.end();
    await run;
  });

  it('wakes up for a throttled target that is due, and does not report it as unnotified', async () => {
    let due: number | null = 700;
    const { protocol, calls } = parts({
      deliver: async () => {
        calls.push('deliver');
        const rows = due === null ? 1 : 0;
        return { rows, retryInMs: null, dueInMs: due };
      },
    });
    const run = protocol.run();
    await vi.advanceTimersByTimeAsync(200);
    calls.length = 0;
    due = null;
    await vi.advanceTimersByTimeAsync(600);
    expect(calls.slice(0, 2)).toEqual(['deliver', 'asleep']);
    expect(calls).not.toContain('unnotified');
    protocol.end();
    await run;
  });

  it('reports rows that only the fallback poll found', async () => {
    let rows = 0;
    const { protocol, calls } = parts({
      deliver: async () => {
        const outcome = { rows, retryInMs: null, dueInMs: null };
        rows = 0;
        return outcome;
      },
    });
    const run = protocol.run();
    await vi.advanceTimersByTimeAsync(200);
    rows = 3;
    await vi.advanceTimersByTimeAsync(5_100);
    expect(calls).toContain('unnotified');
    protocol.end();
    await run;
  });
});
