import { describe, expect, it } from 'vitest';
import { MOST_BYTES, MOST_KEYS, splitKeys } from './requests.ts';

describe('splitKeys', () => {
  it('keeps order and every key, within the limits of a request', () => {
    const keys = Array.from({ length: 25_000 }, (_, index) => `key:${index}`);
    const groups = splitKeys(keys);
    expect(groups.flat()).toEqual(keys);
    for (const group of groups) expect(group.length).toBeLessThanOrEqual(MOST_KEYS);
  });

  it('counts bytes, of characters that need three as well', () => {
    const groups = splitKeys(Array.from({ length: 100 }, (_, index) => `${index}${'\u20ac'.repeat(10_000)}`));
    for (const group of groups) {
      expect(Buffer.byteLength(JSON.stringify(group))).toBeLessThanOrEqual(MOST_BYTES);
    }
    expect(groups.length).toBeGreaterThan(1);
  });

  it('gives a key a group of its own that is larger than a request should be', () => {
    expect(splitKeys(['x'.repeat(2_000_000), 'y']).map((group) => group.length)).toEqual([1, 1]);
  });

  it('counts the prefix that each key gets', () => {
    const keys = Array.from({ length: 5_000 }, (_, index) => `key:${index}`);
    expect(splitKeys(keys)).toHaveLength(1);
    expect(splitKeys(keys, 'p'.repeat(100)).length).toBeGreaterThan(1);
  });
});
