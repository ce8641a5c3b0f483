import { describe, expect, it } from 'vitest';
import { ENOUGH_ALIKE, kindOf, type Outcome, Tally } from './results.ts';

const HIT: Outcome = { origin: 'HIT', absent: false };
const times = (count: number, outcome: Outcome) => Array.from({ length: count }, () => outcome);
const enough = (failure: string) => times(ENOUGH_ALIKE, { failure });

function tallyOf(...outcomes: Outcome[]): Tally {
  const tally = new Tally();
  for (const [index, outcome] of outcomes.entries()) tally.add(outcome, () => `url ${index}`);
  return tally;
}

it('counts answers by where they came from, and failures by what they have in common', () => {
  const tally = tallyOf(
    { origin: 'MISS', absent: false },
    { origin: 'MISS', absent: true },
    HIT,
    { failure: 'HTTP 400' },
    { failure: 'timeout' },
    { failure: 'HTTP 400' },
    { failure: 'HTTP 400' },
  );
  expect(tally).toMatchObject({ asked: 7, answered: 3, failed: 4, absent: 1 });
  expect(tally.origins).toEqual({ MISS: 2, HIT: 1, STALE: 0, other: 0 });
  expect(Object.fromEntries(tally.failures)).toEqual({ 'HTTP 400': 3, timeout: 1 });
  expect(tally.examples).toEqual([
    { failure: 'HTTP 400', url: 'url 3' },
    { failure: 'timeout', url: 'url 4' },
    { failure: 'HTTP 400', url: 'url 5' },
  ]);
});

it('shows the beginning of a long address', () => {
  const tally = new Tally();
  tally.add({ failure: 'x' }, () => 'a'.repeat(200));
  tally.add({ failure: 'x' }, () => 'b'.repeat(20_000));
  expect(tally.examples.map(({ url }) => url)).toEqual(['a'.repeat(200), `${'b'.repeat(200)}…`]);
});

describe('hopeless', () => {
  it.each(['HTTP 401', 'HTTP 403', 'ECONNREFUSED', 'x-cache: BYPASS'])(
    'when nothing but %s came of the first ones',
    (failure) => {
      expect(tallyOf(...enough(failure).slice(1)).hopeless).toBeUndefined();
      expect(tallyOf(...enough(failure)).hopeless).toBe(failure);
    },
  );

  it.each(['HTTP 400', 'HTTP 404', 'HTTP 500'])('never by %s, the fault of single questions', (failure) => {
    expect(tallyOf(...enough(failure), ...enough(failure)).hopeless).toBeUndefined();
  });

  it.each([
    ['HTTP 401', true],
    ['HTTP 503', true],
    ['ECONNREFUSED', true],
    ['timeout', true],
    ['HTTP 400', false],
    ['HTTP 403', false],
    ['HTTP 500', false],
  ])('later, with %s: %s', (failure, expected) => {
    expect(tallyOf(HIT, ...enough(failure)).hopeless).toBe(expected ? failure : undefined);
    expect(tallyOf(...enough(failure).slice(1), HIT, { failure }).hopeless).toBeUndefined();
  });

  it('not while the failures differ', () => {
    const mixed = enough('x').flatMap((): Outcome[] => [{ failure: 'timeout' }, { failure: 'HTTP 503' }]);
    expect(tallyOf(...mixed).hopeless).toBeUndefined();
  });
});

it.each([
  [[], 0],
  [[HIT], 0],
  [[HIT, { failure: 'HTTP 401' }], 1],
  [[{ failure: 'HTTP 401' }], 77],
  [[{ failure: 'HTTP 401' }, { failure: 'HTTP 403' }], 77],
  [[{ failure: 'ECONNREFUSED' }], 69],
  [[{ failure: 'timeout' }, { failure: 'HTTP 503' }], 69],
  [[{ failure: 'HTTP 401' }, { failure: 'HTTP 503' }], 1],
  [[{ failure: 'HTTP 400' }], 1],
  [[HIT, ...enough('ECONNREFUSED')], 69],
  [[HIT, { failure: 'HTTP 400' }, ...enough('HTTP 401')], 77],
] as [Outcome[], number][])('%j ends with %i', (outcomes, expected) => {
  expect(tallyOf(...outcomes).exitCode).toBe(expected);
});

it.each([
  ['HTTP 401', 'denied'],
  ['HTTP 403', 'denied'],
  ['HTTP 429', 'away'],
  ['HTTP 503', 'away'],
  ['x-cache: BYPASS', 'away'],
  ['ENOTFOUND', 'away'],
  ['HTTP 400', 'request'],
  ['HTTP 500', 'request'],
  ['HTTP 302', 'request'],
])('%s is of the kind %s', (failure, kind) => {
  expect(kindOf(failure)).toBe(kind);
});
