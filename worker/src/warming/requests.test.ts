import { describe, expect, it } from 'vitest';
import { credentials, outcomeOf, retryAfter, sendAll } from './requests.ts';
import type { Outcome } from './results.ts';

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

describe('sendAll', () => {
  const HIT: Outcome = { origin: 'HIT', absent: false };
  const addresses = Array.from({ length: 20 }, (_, index) => `a${index}`);

  /** Lets everything run that needs nothing from outside. */
  const turn = () => new Promise((resolve) => setImmediate(resolve));

  it('has as many requests open as it may, never more, and sends one to each address', async () => {
    const open: (() => void)[] = [];
    const sent: string[] = [];
    const sending = sendAll(
      addresses,
      3,
      (address) => {
        sent.push(address);
        return new Promise((resolve) => open.push(() => resolve(HIT)));
      },
      String,
    );
    for (let left = addresses.length; left > 0; left--) {
      await turn();
      expect(open).toHaveLength(Math.min(3, left));
      open.shift()?.();
    }
    expect((await sending).answered).toBe(20);
    expect(sent).toEqual(addresses);
  });

  it('interrupts what is open when it stops, and counts none of it', async () => {
    let interrupted = 0;
    const results = await sendAll(
      addresses,
      2,
      (address, signal) =>
        address === 'a0'
          ? new Promise((_, reject) => {
              signal.addEventListener('abort', () => {
                interrupted += 1;
                reject(signal.reason);
              });
            })
          : Promise.resolve({ failure: 'HTTP 401' }),
      String,
    );
    expect(results).toMatchObject({ asked: 10, stoppedBy: 'HTTP 401' });
    expect(interrupted).toBe(1);
  });

  it('passes on what is no outcome', async () => {
    const broken = sendAll(addresses, 2, () => Promise.reject(new Error('a defect')), String);
    await expect(broken).rejects.toThrow('a defect');
  });
});
