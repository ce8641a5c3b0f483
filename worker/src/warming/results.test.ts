import { describe, expect, it } from 'vitest';
import { kindOf, type Outcome, Results, STOP_AFTER } from './results.ts';

const HIT: Outcome = { origin: 'HIT', absent: false };
const times = (count: number, outcome: Outcome) => Array.from({ length: count }, () => outcome);
const enough = (failure: string) => times(STOP_AFTER, { failure });

function resultsOf(...outcomes: Outcome[]): Results {
  const results = new Results();
  for (const [index, outcome] of outcomes.entries()) results.add(outcome, `url ${index}`);
  return results;
}

it('counts answers by where they came from, and failures by what they have in common', () => {
  const results = resultsOf(
    { origin: 'MISS', absent: false },
    { origin: 'MISS', absent: true },
    HIT,
    { failure: 'HTTP 400' },
    { failure: 'timeout' },
    { failure: 'HTTP 400' },
    { failure: 'HTTP 400' },
  );
  expect(results).toMatchObject({ asked: 7, answered: 3, absent: 1 });
  expect(results.xCache).toEqual({ MISS: 2, HIT: 1, STALE: 0, other: 0 });
  expect(results.failed).toEqual({ 'HTTP 400': 3, timeout: 1 });
  expect(results.examples).toEqual([
    { failure: 'HTTP 400', url: 'url 3' },
    { failure: 'timeout', url: 'url 4' },
    { failure: 'HTTP 400', url: 'url 5' },
  ]);
});

it('shows the beginning of a long address', () => {
  const results = new Results();
  results.add({ failure: 'x' }, 'a'.repeat(200));
  results.add({ failure: 'x' }, 'b'.repeat(20_000));
  expect(results.examples.map(({ url }) => url)).toEqual(['a'.repeat(200), `${'b'.repeat(200)}…`]);
});

describe('stops', () => {
  it.each(['HTTP 401', 'HTTP 403', 'ECONNREFUSED', 'x-cache: BYPASS'])(
    'when nothing but %s came of the first ones',
    (failure) => {
      expect(resultsOf(...enough(failure).slice(1)).stoppedBy).toBeUndefined();
      expect(resultsOf(...enough(failure)).stoppedBy).toBe(failure);
    },
  );

  it.each(['HTTP 400', 'HTTP 404', 'HTTP 500'])('never by %s, the fault of single requests', (failure) => {
    expect(resultsOf(...enough(failure), ...enough(failure)).stoppedBy).toBeUndefined();
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
    expect(resultsOf(HIT, ...enough(failure)).stoppedBy).toBe(expected ? failure : undefined);
    expect(resultsOf(...enough(failure).slice(1), HIT, { failure }).stoppedBy).toBeUndefined();
  });

  it('not while the failures differ', () => {
    const mixed = enough('x').flatMap((): Outcome[] => [{ failure: 'timeout' }, { failure: 'HTTP 503' }]);
    expect(resultsOf(...mixed).stoppedBy).toBeUndefined();
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
  expect(resultsOf(...outcomes).exitCode).toBe(expected);
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

describe('advice', () => {
  const UNMARKED: Outcome = { origin: 'other', absent: false };

  function adviceOn(outcomes: readonly Outcome[], hasToken = true): string {
    return resultsOf(...outcomes).advice('https://h', hasToken, 30);
  }

  it.each([
    ['HTTP 401', false, /set FENCEPOST_WARM_TOKEN to a secret key/],
    ['HTTP 403', true, /refuse the caller of FENCEPOST_WARM_TOKEN/],
    ['HTTP 404', true, /Nothing is served at this path/],
    ['HTTP 400', true, /See what curl is answered: .* do the rows fill it/],
    ['HTTP 429', true, /lower --concurrency/],
    ['HTTP 503', true, /health-check and their log/],
    ['x-cache: BYPASS', true, /without their cache/],
    ['timeout', true, /within 30 s: raise --timeout-seconds/],
    ['ECONNREFUSED', true, /Nobody answers at https:\/\/h: start it/],
    ['bad port', true, /The request to https:\/\/h failed by itself/],
  ] as const)('of %s it names the remedy', (failure, hasToken, remedy) => {
    expect(adviceOn([{ failure }], hasToken)).toMatch(remedy);
    expect(adviceOn([{ failure }], hasToken)).toContain(`No request was answered (${failure}).`);
    const enough = adviceOn(
      Array.from({ length: STOP_AFTER }, () => ({ failure })),
      hasToken,
    );
    expect(enough).toMatch(remedy);
    expect(enough).toMatch(kindOf(failure) === 'request' ? /^No request was answered/ : /^Stopped after 10/);
    expect(adviceOn([HIT, { failure }])).toMatch(/^1 of 2 requests failed\./);
  });

  it.each(['ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT'])(
    'of %s it says that nobody answers',
    (failure) => expect(adviceOn([{ failure }])).toContain('Nobody answers at https://h'),
  );

  it.each([
    ...['ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_TLS_CERT_ALTNAME_INVALID', 'EPROTO', 'CERT_HAS_EXPIRED'],
    ...['DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
    ...['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'UNABLE_TO_GET_CRL_ISSUER', 'INVALID_CA'],
  ])('of %s it says that TLS fails', (failure) => {
    expect(adviceOn([{ failure }])).toMatch(/Somebody answers at https:\/\/h, but TLS with it fails/);
  });

  it.each([
    ...['Z_DATA_ERROR', 'Z_BUF_ERROR', 'HPE_INVALID_CONSTANT', 'UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'],
    ...['ERR__ERROR_FORMAT_PADDING_1'],
  ])('of %s it says that the answer is broken', (failure) => {
    expect(adviceOn([{ failure }])).toMatch(/Somebody answers at https:\/\/h, but what comes is broken/);
  });

  it('says of the others only what is known', () => {
    const failure = { failure: 'timeout' };
    expect(adviceOn([HIT, failure])).toContain('The answers to the others are cached; see to these and run');
    expect(adviceOn([HIT, UNMARKED, failure])).not.toContain('cached');
    expect(adviceOn([failure, { failure: 'HTTP 400' }])).not.toContain('cached');
    expect(adviceOn([HIT, { failure: 'HTTP 400' }, { failure: 'HTTP 500' }])).toContain('see to these rows');
  });
});
