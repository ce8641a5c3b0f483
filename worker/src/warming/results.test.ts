import { describe, expect, it } from 'vitest';
import { conclude, type Outcome, STOP_AFTER, stoppedBy } from './results.ts';

const HIT: Outcome = { origin: 'HIT', absent: false };
const enough = (failure: string): Outcome[] => Array.from({ length: STOP_AFTER }, () => ({ failure }));
const conclusionOf = (...outcomes: Outcome[]) =>
  conclude(outcomes.map((outcome, index) => ({ ...outcome, url: `url ${index}` })));

it('counts answers by where they came from, and failures by what they have in common', () => {
  const { counts } = conclusionOf(
    { origin: 'MISS', absent: false },
    { origin: 'MISS', absent: true },
    HIT,
    { failure: 'HTTP 400' },
    { failure: 'timeout' },
    { failure: 'HTTP 400' },
    { failure: 'HTTP 400' },
  );
  expect(counts).toEqual({
    asked: 7,
    answered: 3,
    xCache: { MISS: 2, HIT: 1, STALE: 0, other: 0 },
    absent: 1,
    failed: { 'HTTP 400': 3, timeout: 1 },
    examples: [
      { failure: 'HTTP 400', url: 'url 3' },
      { failure: 'timeout', url: 'url 4' },
      { failure: 'HTTP 400', url: 'url 5' },
    ],
  });
});

it('shows the beginning of a long address', () => {
  const { counts } = conclude([
    { failure: 'x', url: 'a'.repeat(300) },
    { failure: 'x', url: 'b'.repeat(20_000) },
  ]);
  expect(counts.examples.map(({ url }) => url)).toEqual(['a'.repeat(300), `${'b'.repeat(297)}...`]);
});

describe('stops', () => {
  it.each(['HTTP 401', 'HTTP 403', 'ECONNREFUSED', 'x-cache: BYPASS'])(
    'when nothing but %s came of the first ones',
    (failure) => {
      expect(stoppedBy(enough(failure).slice(1))).toBeUndefined();
      expect(stoppedBy(enough(failure))).toBe(failure);
    },
  );

  it.each(['HTTP 400', 'HTTP 404', 'HTTP 500'])('never by %s, the fault of single requests', (failure) => {
    expect(stoppedBy([...enough(failure), ...enough(failure)])).toBeUndefined();
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
    expect(stoppedBy([HIT, ...enough(failure)])).toBe(expected ? failure : undefined);
    expect(stoppedBy([...enough(failure).slice(1), HIT, { failure }])).toBeUndefined();
  });

  it('not while the failures differ', () => {
    const mixed = enough('x').flatMap((): Outcome[] => [{ failure: 'timeout' }, { failure: 'HTTP 503' }]);
    expect(stoppedBy(mixed)).toBeUndefined();
  });

  it('never while all is answered', () => {
    expect(stoppedBy(enough('').map(() => HIT))).toBeUndefined();
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
  expect(conclusionOf(...outcomes).error?.exitCode ?? 0).toBe(expected);
});

describe('the error', () => {
  it.each([
    ['HTTP 401', 77, /The caller is refused: set FENCEPOST_WARM_TOKEN to a secret key/],
    ['HTTP 403', 77, /The caller is refused: set FENCEPOST_WARM_TOKEN to a secret key/],
    ['HTTP 404', 1, /Nothing is served at this path/],
    ['HTTP 400', 1, /See what curl is answered: .* do the rows fit/],
    ['HTTP 500', 1, /See what curl is answered/],
    ['HTTP 302', 1, /See what curl is answered/],
    ['HTTP 429', 69, /lower --concurrency/],
    ['HTTP 502', 69, /health-check and their log/],
    ['HTTP 503', 69, /health-check and their log/],
    ['HTTP 504', 69, /health-check and their log/],
    ['x-cache: BYPASS', 69, /without their cache/],
    ['timeout', 69, /raise --timeout-seconds/],
    ...[
      'ECONNREFUSED',
      'ENOTFOUND',
      'EPROTO',
      'CERT_HAS_EXPIRED',
      'Z_DATA_ERROR',
      'UND_ERR_SOCKET',
      'bad port',
    ].map((code) => [code, 69, /Start the functions, or correct the address, http or https/] as const),
  ] as const)('of %s exits with %i and names the remedy', (failure, exitCode, remedy) => {
    const { error } = conclusionOf({ failure });
    expect(error).toMatchObject({ code: 'WARMING_FAILED', exitCode, message: expect.stringMatching(remedy) });
    expect(error?.message).toContain(`1 of 1 requests failed (${failure}).`);
    const all = conclusionOf(...enough(failure)).error?.message;
    expect(all).toMatch(remedy);
    expect(all).toMatch(exitCode === 1 ? /^10 of 10 requests/ : /^Stopped: 10 of 10 requests/);
    expect(conclusionOf(HIT, { failure }).error?.message).toMatch(/^1 of 2 requests failed/);
  });

  it('names every failure, and only the last one when it stopped', () => {
    const mixed = [HIT, { failure: 'HTTP 400' }, { failure: 'timeout' }];
    expect(conclusionOf(...mixed).error?.message).toContain(
      '2 of 3 requests failed (HTTP 400, timeout). See what',
    );
    expect(conclusionOf(...mixed, ...enough('HTTP 503')).error?.message).toContain(
      '12 of 13 requests failed (HTTP 503). ',
    );
  });
});
