import { describe, expect, it } from 'vitest';
import { answerWithin, backoffMs, DeadlineError, endsWithin, Serial } from './waiting.ts';

const never = new Promise<never>(() => undefined);

describe('answerWithin', () => {
  it('gives the answer or the failure of work that ends in time', async () => {
    expect(await answerWithin(1_000, Promise.resolve(1))).toBe(1);
    expect(await answerWithin(null, Promise.resolve(1))).toBe(1);
    await expect(answerWithin(1_000, Promise.reject(new Error('it failed')))).rejects.toThrow('it failed');
  });

  it('gives up at the deadline, and as soon as the signal aborts', async () => {
    await expect(answerWithin(1, never)).rejects.toThrow(DeadlineError);
    const stop = new AbortController();
    const waiting = answerWithin(null, never, stop.signal);
    stop.abort(new Error('stopped'));
    await expect(waiting).rejects.toThrow('stopped');
    await expect(answerWithin(1_000, never, stop.signal)).rejects.toThrow('stopped');
  });

  it('drops the failure of work that was given up', async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown) => unhandled.push(error);
    process.on('unhandledRejection', note);
    let fail: (error: Error) => void = () => undefined;
    const work = new Promise<never>((_, reject) => {
      fail = reject;
    });
    await expect(answerWithin(1_000, work, AbortSignal.abort(new Error('stopped')))).rejects.toThrow(
      'stopped',
    );
    fail(new Error('too late'));
    await new Promise((resolve) => setImmediate(resolve));
    process.off('unhandledRejection', note);
    expect(unhandled).toEqual([]);
  });
});

it('endsWithin tells work that failed in time from work that did not end', async () => {
  expect(await endsWithin(1_000, Promise.reject(new Error('it failed')))).toBe(true);
  expect(await endsWithin(1, never)).toBe(false);
});

it('backoffMs doubles up to its limit, however many failures there were', () => {
  expect([0, 1, 2, 3, 4, 5_000].map((failures) => backoffMs(failures, 100, 1_000))).toEqual([
    100, 200, 400, 800, 1_000, 1_000,
  ]);
});

it('Serial runs work one piece after the other, also after a failure', async () => {
  const serial = new Serial();
  const steps: string[] = [];
  const piece = (name: string, fails = false) =>
    serial.run(async () => {
      steps.push(`${name} begins`);
      await Promise.resolve();
      steps.push(`${name} ends`);
      if (fails) throw new Error(name);
      return name;
    });
  const first = piece('a', true);
  const second = piece('b');
  await serial.settled();
  await expect(first).rejects.toThrow('a');
  expect(await second).toBe('b');
  expect(steps).toEqual(['a begins', 'a ends', 'b begins', 'b ends']);
});
