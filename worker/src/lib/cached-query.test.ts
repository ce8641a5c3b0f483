import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Reading } from './cached-query.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout', 'Date'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('a reading', () => {
  it('is made when somebody looks, and not again before its time', async () => {
    let read = 0;
    const reading = new Reading(async () => ++read, { freshMs: 3_000, waitMs: 1_000 });
    expect(read).toBe(0);
    expect((await reading.latest())?.value).toBe(1);
    vi.advanceTimersByTime(2_999);
    expect((await reading.latest())?.value).toBe(1);
    vi.advanceTimersByTime(1);
    expect((await reading.latest())?.value).toBe(2);
  });

  it('is made once for all who look at the same time', async () => {
    let read = 0;
    const reading = new Reading(async () => ++read, { freshMs: 0, waitMs: 1_000 });
    const values = await Promise.all([reading.latest(), reading.latest(), reading.latest()]);
    expect(values.map((value) => value?.value)).toEqual([1, 1, 1]);
  });

  it('that does not end is waited for so long and not begun again; its value comes with a later look', async () => {
    let finish: (value: string) => void = () => undefined;
    let read = 0;
    const reading = new Reading(
      () => {
        read++;
        return new Promise<string>((resolve) => {
          finish = resolve;
        });
      },
      { freshMs: 3_000, waitMs: 1_000 },
    );
    const first = reading.latest();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(await first).toBeNull();
    vi.advanceTimersByTime(10_000);
    const second = reading.latest();
    finish('late');
    expect((await second)?.value).toBe('late');
    expect(read).toBe(1);
  });

  it('that fails leaves the last value, with its age, and is made good by the next', async () => {
    let works = true;
    const reading = new Reading(
      async () => {
        if (!works) throw new Error('away');
        return 'there';
      },
      { freshMs: 1, waitMs: 1_000 },
    );
    await reading.latest();
    works = false;
    vi.advanceTimersByTime(5);
    const old = await reading.latest();
    expect(old?.value).toBe('there');
    expect(Date.now() - (old?.at ?? 0)).toBe(5);
    works = true;
    vi.advanceTimersByTime(5);
    expect(Date.now() - ((await reading.latest())?.at ?? 0)).toBe(0);
  });
});
