import { describe, expect, it } from 'vitest';
import { isSame } from './same.ts';

describe('isSame', () => {
  it.each([
    [null, undefined],
    ['2026-11-22T10:00:00+00:00', '2026-11-22T10:00:00.000Z'],
    ['1.50', '1.5'],
    [{ a: 1, b: null }, { a: 1 }],
    [[{ used: 3 }], [{ used: 3 }]],
    [10, '10'],
  ])('%j says the same as %j', (a, b) => {
    expect(isSame(a, b)).toBe(true);
    expect(isSame(b, a)).toBe(true);
  });

  it.each([
    [{ used: 3 }, { used: 4 }],
    [null, { used: 3 }],
    ['100', '1'],
    ['2026-11-22T10:00:00Z', '2026-11-22T10:00:01Z'],
    [[1, 2], [1]],
    ['a', 'b'],
    [true, false],
    [{ a: null }, { a: 0 }],
  ])('%j differs from %j', (a, b) => {
    expect(isSame(a, b)).toBe(false);
    expect(isSame(b, a)).toBe(false);
  });
});
