/** When throttled targets cost a query, and when not. tests/capture/throttled.test.ts tests what the queries return. */
import { expect, it } from 'vitest';
import { ThrottledTargets } from './throttled-targets.ts';

function setUp(results: {
  nextDue?: () => number | null;
  forgetThrottled?: () => number | null;
  due?: number;
}) {
  const calls: string[] = [];
  let left = results.due ?? 0;
  const throttled = new ThrottledTargets({
    nextDue: async () => {
      calls.push('nextDue');
      return results.nextDue?.() ?? null;
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
      return results.forgetThrottled?.() ?? null;
    },
  });
  return { throttled, calls };
}

const apply = async () => true;

it('queries once, and again after a change', async () => {
  const { throttled, calls } = setUp({});
  for (let times = 0; times < 3; times++) expect(await throttled.run(Infinity, apply)).toBe(0);
  expect(calls).toEqual(['nextDue']);
  throttled.changed();
  await throttled.run(Infinity, apply);
  expect(calls).toEqual(['nextDue', 'nextDue']);
});

it('queries again when something changed during the query', async () => {
  const { throttled, calls } = setUp({
    nextDue: () => {
      if (calls.length === 1) throttled.changed();
      return null;
    },
  });
  await throttled.run(Infinity, apply);
  await throttled.run(Infinity, apply);
  expect(calls).toEqual(['nextDue', 'nextDue']);
});

it('runs due targets, in as many batches as allowed', async () => {
  const { throttled, calls } = setUp({ nextDue: () => 0, due: 5 });
  expect(await throttled.run(2, apply)).toBe(2);
  expect(calls.filter((call) => call === 'settle')).toHaveLength(2);
  expect(throttled.dueInMs).toBe(0);
});

it('does not query in a loop for a due target that another session has locked', async () => {
  const { throttled } = setUp({ nextDue: () => -5_000, due: 0 });
  expect(await throttled.run(Infinity, apply)).toBe(0);
  expect(throttled.dueInMs).toBeGreaterThan(500);
});

it('cleans up at the start and when the database says so, and costs nothing when nothing is left', async () => {
  const answers = [-1, null, 3_600_000];
  const { throttled, calls } = setUp({ forgetThrottled: () => answers.shift() ?? null });
  for (let times = 0; times < 4; times++) await throttled.cleanUpIfDue();
  expect(calls).toEqual(['forgetThrottled', 'forgetThrottled']);
  throttled.reset();
  await throttled.cleanUpIfDue();
  throttled.changed();
  await throttled.cleanUpIfDue();
  expect(calls).toHaveLength(3);
});
