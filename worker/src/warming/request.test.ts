import { describe, expect, it } from 'vitest';
import { credentials, outcomeOf, retryAfter } from './request.ts';

it('sends a token as one, and the keys that are none in the header for them', () => {
  expect(credentials('eyJ.x.y')).toEqual({ authorization: 'Bearer eyJ.x.y' });
  expect(credentials('sb_secret_x')).toEqual({ apikey: 'sb_secret_x' });
  expect(credentials(undefined)).toEqual({});
});

describe('outcomeOf', () => {
  it.each([
    [200, 'MISS', { origin: 'MISS', absent: false }],
    [200, 'HIT', { origin: 'HIT', absent: false }],
    [200, 'STALE', { origin: 'STALE', absent: false }],
    [204, null, { origin: 'other', absent: false }],
    [200, 'Hit from cloudfront', { origin: 'other', absent: false }],
    [404, 'MISS', { origin: 'MISS', absent: true }],
    [404, null, { failure: 'HTTP 404' }],
    [200, 'BYPASS', { failure: 'x-cache: BYPASS' }],
    [404, 'BYPASS', { failure: 'x-cache: BYPASS' }],
    [401, null, { failure: 'HTTP 401' }],
    [302, 'HIT', { failure: 'HTTP 302' }],
    [500, 'MISS', { failure: 'HTTP 500' }],
  ])('%i with x-cache %s', (status, cache, expected) => {
    expect(outcomeOf(status, cache)).toEqual(expected);
  });
});

it.each([
  [null, undefined],
  ['', undefined],
  ['soon', undefined],
  ['0', 0],
  ['7', 7_000],
  [' 7 ', 7_000],
  ['Thu, 01 Jan 1970 00:01:40 GMT', 90_000],
  ['Thu, 01 Jan 1970 00:00:00 GMT', 0],
])('retry-after %s', (header, expected) => {
  expect(retryAfter(header, 10_000)).toBe(expected);
});
