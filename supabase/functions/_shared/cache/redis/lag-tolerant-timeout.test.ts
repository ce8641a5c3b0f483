import { describe, expect, it, vi } from 'vitest';
import { startLagTolerantTimeout } from './lag-tolerant-timeout.ts';
import type { Timers } from './runtime.ts';

/** Whatever timers there are when they are asked for: here, stopped ones. */
const stopped: Timers = {
  start: (run, milliseconds) => setTimeout(run, milliseconds),
  stop: (timer) => clearTimeout(timer as NodeJS.Timeout),
};

describe('the lag-tolerant timeout', () => {
  it('aborts with a TimeoutError when its time is over', async () => {
    vi.useFakeTimers();
    const { signal } = startLagTolerantTimeout(250, stopped);
    await vi.advanceTimersByTimeAsync(249);
    expect(signal.aborted).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(signal.reason).toMatchObject({ name: 'TimeoutError' });
    vi.useRealTimers();
  });

  it('does not abort once it was stopped', async () => {
    vi.useFakeTimers();
    const { signal, stop } = startLagTolerantTimeout(250, stopped);
    await vi.advanceTimersByTimeAsync(100);
    stop();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(signal.aborted).toBe(false);
    vi.useRealTimers();
  });

  it('counts a standstill of the process as one slice, so that a reply that has arrived is read first', async () => {
    const { signal, stop } = startLagTolerantTimeout(100);
    const standstillUntil = performance.now() + 300;
    while (performance.now() < standstillUntil);
    // Everything that is due now: the first slice of five, not the timeout.
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    expect(signal.aborted).toBe(false);
    stop();
  });
});
