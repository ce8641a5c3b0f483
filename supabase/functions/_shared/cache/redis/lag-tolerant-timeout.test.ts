import { describe, expect, it, vi } from 'vitest';
import { startFairTimeout } from './lag-tolerant-timeout.ts';

describe('the fair timeout', () => {
  it('aborts with a TimeoutError when its time is over', async () => {
    vi.useFakeTimers();
    const { signal } = startFairTimeout(250);
    await vi.advanceTimersByTimeAsync(249);
    expect(signal.aborted).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    expect(signal.reason).toMatchObject({ name: 'TimeoutError' });
    vi.useRealTimers();
  });

  it('does not abort once it was stopped', async () => {
    vi.useFakeTimers();
    const { signal, stop } = startFairTimeout(250);
    await vi.advanceTimersByTimeAsync(100);
    stop();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(signal.aborted).toBe(false);
    vi.useRealTimers();
  });

  it('counts a standstill of the process as one slice, so that what has arrived is looked at first', async () => {
    const { signal, stop } = startFairTimeout(100);
    const standstillUntil = performance.now() + 300;
    while (performance.now() < standstillUntil);
    // Everything that is due now: the first slice of five, not the timeout.
    await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    expect(signal.aborted).toBe(false);
    stop();
  });
});
