import { isDeepStrictEqual } from 'node:util';
import { runInNewContext } from 'node:vm';
import { createClient } from '@supabase/supabase-js';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { unsupportedIn } from './values.ts';

function withoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutUndefined);
  if (typeof value !== 'object' || value === null) return value;
  const present = Object.entries(value).filter(([, part]) => part !== undefined);
  return Object.fromEntries(present.map(([name, part]) => [name, withoutUndefined(part)]));
}

describe('what the cache keeps', () => {
  it('is every value that JSON gives back equal', { timeout: 30_000 }, () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), (value) => {
        // the generator gives -0 too, which JSON does not
        expect(unsupportedIn(JSON.parse(JSON.stringify(value)))).toBeNull();
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
        const back: unknown = JSON.parse(JSON.stringify(value));
        expect(isDeepStrictEqual(back, withoutUndefined(value))).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it.each([
    ['of another realm', runInNewContext('({ a: [1, { b: 2 }] })')],
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
    ['-0', { balance: -0 }, /\$\.balance is -0/],
    ['an object without a prototype', { a: Object.create(null) }, /\$\.a is an object without a prototype/],
    ['groups of a match', /(?<year>.)/.exec('1')?.groups, /\$ is an object without a prototype/],
    [
      'a property named by a symbol',
      { a: { [Symbol('x')]: 1 } },
      /\$\.a is an object with properties named by symbols/,
    ],
    [
      'an element named by a symbol',
      Object.assign([1], { [Symbol('x')]: 1 }),
      /\$ is an array with properties of its own/,
    ],
    [
      'a hidden property',
      Object.defineProperty({ a: 1 }, 'b', { value: 2 }),
      /\$ is an object with properties that are not enum/,
    ],
    [
      'arguments',
      (function own(..._: unknown[]) {
        // biome-ignore lint/complexity/noArguments: what a caller passes on.
        return { passed: arguments };
      })(1, 2),
      /\$\.passed is `arguments`, an object with/,
    ],
    ['a namespace', Math, /\$ is an object with properties named by symbols/],
    [
      'what supabase-js gives for a query that failed',
      { data: null, error: { code: '42P01' }, count: null },
      /throwOnError\(\)/,
    ],
    ['the same with an error of a class', { data: null, error: new Error('x') }, /throwOnError\(\)/],
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

  it('knows what the real supabase-js gives for a query that failed', async () => {
    const answer = (status: number, body: string) => async () =>
      new Response(body, { status, headers: { 'content-type': 'application/json' } });
    const query = (fetch: typeof globalThis.fetch) =>
      createClient('https://ref.supabase.co', 'anon', {
        global: { fetch },
        realtime: { transport: class {} as never },
      })
        .from('quotas')
        .select()
        .single()
        .retry(false);
    const away = async () => {
      throw new TypeError('fetch failed');
    };
    for (const fetch of [answer(400, '{"code":"42703"}'), answer(406, '{"code":"PGRST116"}'), away])
      expect(unsupportedIn(await query(fetch))?.message).toMatch(/throwOnError/);
    expect(unsupportedIn(await query(answer(200, '{"used":1}')))).toBeNull();
  });

  it('keeps what supabase-js gives for a query that succeeded, and what only looks like a failed one', () => {
    for (const value of [
      { data: [], error: null, count: 0 },
      { error: 'x' },
      { data: 1 },
      [{ data: null, error: 'x' }],
    ])
      expect(unsupportedIn(value)).toBeNull();
  });

  it('lets shared, non-cyclic parts and undefined properties pass', () => {
    const shared = { a: 1 };
    expect(unsupportedIn({ one: shared, two: shared, three: undefined })).toBeNull();
  });
});
