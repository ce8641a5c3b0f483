import { expect, it } from 'vitest';
import { failureOf } from './failure.ts';
import { ENOUGH_ALIKE, kindOf, type Outcome, Tally } from './results.ts';

const HIT: Outcome = { origin: 'HIT', absent: false };
const UNMARKED: Outcome = { origin: 'other', absent: false };

function say(outcomes: readonly Outcome[], hasToken = true): string {
  const tally = new Tally();
  for (const outcome of outcomes) tally.add(outcome, () => '');
  return failureOf(tally, 'https://h', hasToken, 30).message;
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
  expect(say([{ failure }], hasToken)).toMatch(remedy);
  expect(say([{ failure }], hasToken)).toContain(`No request was answered (${failure}).`);
  const enough = say(
    Array.from({ length: ENOUGH_ALIKE }, () => ({ failure })),
    hasToken,
  );
  expect(enough).toMatch(remedy);
  expect(enough).toMatch(kindOf(failure) === 'request' ? /^No request was answered/ : /^Stopped after 10/);
  expect(say([HIT, { failure }])).toMatch(/^1 of 2 requests failed\./);
});

it.each(['ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH', 'ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT'])(
  'of %s it says that nobody answers',
  (failure) => expect(say([{ failure }])).toContain('Nobody answers at https://h'),
);

it.each([
  ...['ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_TLS_CERT_ALTNAME_INVALID', 'EPROTO', 'CERT_HAS_EXPIRED'],
  ...['DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE'],
  ...['UNABLE_TO_GET_ISSUER_CERT_LOCALLY', 'UNABLE_TO_GET_CRL_ISSUER', 'INVALID_CA'],
])('of %s it says that TLS fails', (failure) => {
  expect(say([{ failure }])).toMatch(/Somebody answers at https:\/\/h, but TLS with it fails/);
});

it.each([
  ...['Z_DATA_ERROR', 'Z_BUF_ERROR', 'HPE_INVALID_CONSTANT', 'UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'],
  ...['ERR__ERROR_FORMAT_PADDING_1'],
])('of %s it says that the answer is broken', (failure) => {
  expect(say([{ failure }])).toMatch(/Somebody answers at https:\/\/h, but what comes is broken/);
});

it('says of the others only what is known', () => {
  const failure = { failure: 'timeout' };
  expect(say([HIT, failure])).toContain('The answers to the others are cached; see to these and run');
  expect(say([HIT, UNMARKED, failure])).not.toContain('cached');
  expect(say([failure, { failure: 'HTTP 400' }])).not.toContain('cached');
  expect(say([HIT, { failure: 'HTTP 400' }, { failure: 'HTTP 500' }])).toContain('see to these rows');
});
