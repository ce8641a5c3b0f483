/** When the database is asked about deferred targets, and when it is left alone. What its answers mean is tested there. */
import { expect, it } from 'vitest';
import { Deferred } from './throttled-targets.ts';

function stand(answers: {
  nextDue?: () => number | null;
  forgetThrottled?: () => number | null;
  due?: number;
}) {
  const calls: string[] = [];
  let left = answers.due ?? 0;
  const deferred = new Deferred({
    nextDue: async () => {
      calls.push('nextDue');
      return answers.nextDue?.() ?? null;
    },
    due: async () => {
      calls.push('due');
      const targets = left-- > 0 ? [{ target: 't', watchId: 1, ageMs: 1 }] : [];
      return { run: 'r', targets };
    },
    settle: async () => {
      calls.push('settle');
    },
    forgetThrottled: async () => {
      calls.push('forgetThrottled');
      return answers.forgetThrottled?.() ?? null;
    },
  });
  return { deferred, calls };
}

const apply = async () => true;

it('asks once, and again when something was set aside', async () => {
  const { deferred, calls } = stand({});
  for (let times = 0; times < 3; times++) expect(await deferred.run(Infinity, apply)).toBe(0);
  expect(calls).toEqual(['nextDue']);
  deferred.changed();
  await deferred.run(Infinity, apply);
  expect(calls).toEqual(['nextDue', 'nextDue']);
});

it('asks again when something was set aside while it was asking', async () => {
  const { deferred, calls } = stand({
    nextDue: () => {
      if (calls.length === 1) deferred.changed();
      return null;
    },
  });
  await deferred.run(Infinity, apply);
  await deferred.run(Infinity, apply);
  expect(calls).toEqual(['nextDue', 'nextDue']);
});

it('runs what is due, as often as it may', async () => {
  const { deferred, calls } = stand({ nextDue: () => 0, due: 5 });
  expect(await deferred.run(2, apply)).toBe(2);
  expect(calls.filter((call) => call === 'settle')).toHaveLength(2);
  expect(deferred.dueInMs).toBe(0);
});

it('does not ask again and again for a target that is due and that somebody has locked', async () => {
  const { deferred } = stand({ nextDue: () => -5_000, due: 0 });
  expect(await deferred.run(Infinity, apply)).toBe(0);
  expect(deferred.dueInMs).toBeGreaterThan(500);
});

it('forgets at the beginning and when the database said so, and is silent when nothing rests', async () => {
  const answers = [-1, null, 3_600_000];
  const { deferred, calls } = stand({ forgetThrottled: () => answers.shift() ?? null });
  for (let times = 0; times < 4; times++) await deferred.forgetThrottled();
  expect(calls).toEqual(['forgetThrottled', 'forgetThrottled']);
  deferred.forget();
  await deferred.forgetThrottled();
  deferred.changed();
  await deferred.forgetThrottled();
  expect(calls).toHaveLength(3);
});
