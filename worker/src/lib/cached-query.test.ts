import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CachedQuery } from './cached-query.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout', 'clearTimeout', 'Date'] });
});
afterEach(() => {
  vi.useRealTimers();
});

describe('CachedQuery', () => {
  it('runs when somebody asks, and not again before freshMs', async () => {
    let read = 0;
    const query = new CachedQuery(async () => ++read, { freshMs: 3_000, waitMs: 1_000 });
    expect(read).toBe(0);
    expect((await query.latest())?.value).toBe(1);
    vi.advanceTimersByTime(2_999);
    expect((await query.latest())?.value).toBe(1);
    vi.advanceTimersByTime(1);
    expect((await query.latest())?.value).toBe(2);
  });

  it('runs once for all who ask at the same time', async () => {
    let read = 0;
    const query = new CachedQuery(async () => ++read, { freshMs: 0, waitMs: 1_000 });
    const values = await Promise.all([query.latest(), query.latest(), query.latest()]);
    expect(values.map((value) => value?.value)).toEqual([1, 1, 1]);
  });

  it('makes callers wait at most waitMs, does not start again meanwhile, and gives the late result to a later call', async () => {
    let finish: (value: string) => void = () => undefined;
    let read = 0;
    const query = new CachedQuery(
      () => {
        read++;
        return new Promise<string>((resolve) => {
          finish = resolve;
        });
      },
      { freshMs: 3_000, waitMs: 1_000 },
    );
    const first = query.latest();
    await vi.advanceTimersByTimeAsync(1_000);
    expect(await first).toBeNull();
    vi.advanceTimersByTime(10_000);
    const second = query.latest();
    finish('late');
    expect((await second)?.value).toBe('late');
    expect(read).toBe(1);
  });

  it('keeps the last result with its age while the query fails, and replaces it when the query works again', async () => {
    let works = true;
    const query = new CachedQuery(
      async () => {
        if (!works) throw new Error('away');
        return 'there';
      },
      { freshMs: 1, waitMs: 1_000 },
    );
    await query.latest();
    works = false;
    vi.advanceTimersByTime(5);
    const old = await query.latest();
    expect(old?.value).toBe('there');
    expect(Date.now() - (old?.at ?? 0)).toBe(5);
    works = true;
    vi.advanceTimersByTime(5);
    expect(Date.now() - ((await query.latest())?.at ?? 0)).toBe(0);
  });
});
