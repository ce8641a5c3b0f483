import { runInNewContext } from 'node:vm';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { unsupportedIn } from './values.ts';

function withoutNegativeZero(value: unknown): unknown {
  if (Object.is(value, -0)) return 0;
  if (Array.isArray(value)) return value.map(withoutNegativeZero);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, withoutNegativeZero(part)]));
}

describe('what the cache keeps', () => {
  it('is every value that JSON gives back equal', { timeout: 30_000 }, () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        expect(unsupportedIn(value)).toBeNull();
      }),
    );
  });

  it('is nothing else: what passes comes back equal', () => {
    const anything = fc.anything({
      withBigInt: true,
      withDate: true,
      withMap: true,
      withSet: true,
      withTypedArray: true,
      withSparseArray: true,
      withBoxedValues: true,
      withNullPrototype: true,
    });
    fc.assert(
      fc.property(anything, (value) => {
        if (value === undefined || unsupportedIn(value) !== null) return;
        // toEqual takes an undefined property for none, as readers do; JSON itself turns -0 into 0.
        expect(JSON.parse(JSON.stringify(value))).toEqual(withoutNegativeZero(value));
      }),
      { numRuns: 2_000 },
    );
  });

  it.each([
    ['of another realm', runInNewContext('({ a: [1, { b: 2 }] })')],
    ['without a prototype', Object.assign(Object.create(null), { a: 1 })],
    ['whose properties are called like machinery', JSON.parse('{"__proto__":{"x":1},"constructor":1}')],
  ])('is an object %s', (_, value) => {
    expect(unsupportedIn(value)).toBeNull();
  });
});

describe('refused values', () => {
  const cycle: Record<string, unknown> = {};
  cycle.self = { cycle };
  let deep: unknown = 1;
  for (let level = 0; level < 200_000; level++) deep = [deep];

  it.each<[string, unknown, RegExp]>([
    ['a Date', { row: [{ at: new Date() }] }, /\$\.row\[0\]\.at is a Date/],
    ['a bigint', 1n, /\$ is a bigint/],
    ['a Map', { m: new Map() }, /\$\.m is a Map/],
    ['a Set', new Set([1]), /a Set/],
    ['bytes', new Uint8Array(2), /Uint8Array/],
    ['a buffer', { b: new ArrayBuffer(2) }, /\$\.b is a ArrayBuffer/],
    ['a Response', new Response('x'), /a Response.*await response\.json\(\)/],
    ['an Error', { error: new TypeError('x') }, /\$\.error is a TypeError/],
    ['a regular expression', [/x/], /\$\[0\] is a RegExp/],
    ['a promise', { later: Promise.resolve(1) }, /\$\.later is a Promise/],
    ['an instance of a class', new (class Money {})(), /a Money/],
    ['an instance of a class without a name', Object.create({}), /\$ is a/],
    ['a subclass of Array', new (class Rows extends Array {})(), /a Rows/],
    ['a boxed string', Object('x'), /a String/],
    ['infinity', { n: Number.POSITIVE_INFINITY }, /NaN or infinite/],
    ['its own toJSON', { toJSON: () => 1 }, /\$\.toJSON is a function/],
    ['NaN', [Number.NaN], /\$\[0\] is NaN/],
    ['undefined in an array', [undefined], /\$\[0\] is undefined/],
    ['a function', { f() {} }, /a function/],
    ['a symbol', Symbol('x'), /a symbol/],
    ['a cycle', cycle, /a cycle/],
    ['too deep', deep, /too deeply/],
    [
      'an array with more than its elements',
      { m: /a/.exec('a') },
      /\$\.m is an array with properties of its own/,
    ],
    [
      'a getter that throws',
      {
        get lazy() {
          throw new RangeError('not loaded');
        },
      },
      /throws when it is read/,
    ],
    [
      'a Proxy that refuses',
      new Proxy(
        {},
        {
          ownKeys() {
            throw new RangeError('no');
          },
        },
      ),
      /throws when it is read/,
    ],
  ])('%s', (_, value, message) => {
    const error = unsupportedIn(value);
    expect(error?.code).toBe('UNSUPPORTED_VALUE');
    expect(error?.message).toMatch(message);
  });

  it('lets shared, non-cyclic parts and undefined properties pass', () => {
    const shared = { a: 1 };
    expect(unsupportedIn({ one: shared, two: shared, three: undefined })).toBeNull();
  });
});
