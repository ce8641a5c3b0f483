import pg from 'pg';
import { expect, test } from 'vitest';
import { CaptureCheck, type CaptureProblem } from './capture.ts';

const disabled: CaptureProblem = {
  watch: 1,
  severity: 'error',
  problem: 'triggers are missing or disabled: public.quotas fencepost_1_update',
  remedy: 'select cache_invalidation.refresh();',
};

function setup() {
  let answer: () => Promise<CaptureProblem[]> = async () => [];
  const events: string[] = [];
  const clock = { now: 0 };
  let asked = 0;
  const check = new CaptureCheck({
    problems: () => {
      asked++;
      return answer();
    },
    onBegin: ({ problem }) => events.push(`begin ${problem}`),
    onEnd: ({ problem }) => events.push(`end ${problem}`),
    now: () => clock.now,
  });
  return {
    check,
    events,
    asked: () => asked,
    find: (...problems: CaptureProblem[]) => {
      answer = async () => problems;
    },
    fail: (error: Error) => {
      answer = () => Promise.reject(error);
    },
    later: async (seconds: number) => {
      clock.now += seconds * 1000;
      await check.check('leading');
    },
  };
}

function cancelled(code: string): pg.DatabaseError {
  const error = new pg.DatabaseError('canceling statement due to statement timeout', 0, 'error');
  error.code = code;
  return error;
}

test('a leader asks after 5 s and then at most once in 30 s; a follower never', async () => {
  const { check, asked, later } = setup();
  await check.check('following');
  await later(4.9);
  expect(asked()).toBe(0);
  await later(0.1);
  await later(2);
  await later(27.9);
  expect(asked()).toBe(1);
  await later(0.1);
  expect(asked()).toBe(2);
});

test('a problem begins once and ends once', async () => {
  const { check, events, find, later } = setup();
  find(disabled);
  await later(5);
  await later(30);
  expect(check.problems).toEqual([disabled]);
  find();
  await later(30);
  await later(30);
  expect(check.problems).toEqual([]);
  expect(events).toEqual([`begin ${disabled.problem}`, `end ${disabled.problem}`]);
});

test('while a query runs there is no second one; after a slow one, what begins meanwhile is found within a minute', async () => {
  let finish: (found: CaptureProblem[]) => void = () => undefined;
  let asked = 0;
  const clock = { now: 0 };
  const check = new CaptureCheck({
    problems: () => {
      asked++;
      return new Promise((resolve) => {
        finish = resolve;
      });
    },
    onBegin: () => undefined,
    onEnd: () => undefined,
    now: () => clock.now,
  });
  for (const { tookMs, nextMs } of [
    { tookMs: 2_000, nextMs: 30_000 },
    { tookMs: 4_000, nextMs: 40_000 },
    // As long as the database lets it run: the next begins and ends, 2 s of the timer included, in the minute since this one began.
    { tookMs: 10_000, nextMs: 45_000 },
    { tookMs: 10_000, nextMs: 45_000 },
  ]) {
    const startedAt = clock.now === 0 ? 5_000 : clock.now;
    clock.now = startedAt;
    const before = asked;
    const running = check.check('leading');
    clock.now = startedAt + tookMs;
    await check.check('leading');
    expect(asked).toBe(before + 1);
    finish([disabled]);
    await running;
    expect(check.problems).toEqual([disabled]);
    clock.now = startedAt + nextMs - 1;
    await check.check('leading');
    expect(asked).toBe(before + 1);
    clock.now = startedAt + nextMs;
  }
});

test('a check that is cancelled is a warning, and what was found before stands', async () => {
  const { check, events, find, fail, later } = setup();
  find(disabled);
  await later(5);
  fail(cancelled('57014'));
  await later(30);
  await later(30);
  expect(check.problems).toMatchObject([disabled, { severity: 'warning' }]);
  find();
  await later(30);
  expect(check.problems).toEqual([]);
  expect(events).toHaveLength(4);
});

test.each([new Error('connect ECONNREFUSED'), cancelled('57P01')])(
  'a database that is away ends nothing and begins nothing: %s',
  async (error) => {
    const { check, events, find, fail, later } = setup();
    find(disabled);
    await later(5);
    fail(error);
    await later(30);
    expect(check.problems).toEqual([disabled]);
    expect(events).toHaveLength(1);
  },
);

test('what a leader found is forgotten when it follows, and looked for when it leads again', async () => {
  const { check, asked, find, later } = setup();
  find(disabled);
  await later(5);
  await check.check('following');
  expect(check.problems).toEqual([]);
  await later(5);
  expect(asked()).toBe(2);
});
