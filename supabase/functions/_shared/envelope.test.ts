import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readEnvelope, refuseUnsupported, writeEnvelope } from './envelope.ts';

const stamp = { fences: ['f1', 'f2'], epoch: 'e1', loadedAt: 1_793_527_200_000 };

describe('the envelope', () => {
  it('gives back any JSON value with its stamp', () => {
    fc.assert(
      fc.property(fc.jsonValue({ noUnicodeString: false }), fc.option(fc.nat()), (value, staleAt) => {
        // JSON itself turns -0 into 0, which no reader can tell apart without Object.is.
        const expected: unknown = JSON.parse(JSON.stringify(value));
        expect(readEnvelope(writeEnvelope(stamp, value, staleAt))).toEqual({
          ...stamp,
          staleAt,
          value: expected,
        });
      }),
    );
  });

  it('tells null from absence', () => {
    expect(readEnvelope(writeEnvelope(stamp, null, null))?.value).toBeNull();
    expect(readEnvelope(writeEnvelope(stamp, undefined, null))?.value).toBeUndefined();
  });

  it.each([
    '',
    'null',
    '"null"',
    '123',
    '{}',
    '[]',
    '{"v":2,"f":[],"e":null,"t":1}',
    '{"v":1,"f":[1],"e":null,"t":1}',
    '{"v":1,"f":["a"],"e":3,"t":1}',
    '{"v":1,"f":["a"],"e":null}',
    '{"v":1,"f":["a"],"e":null,"t":1,"s":"x"}',
    '{"v":1,',
  ])('takes %j for none of ours', (text) => {
    expect(readEnvelope(text)).toBeNull();
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
    ['bytes', new Uint8Array(2), /Uint8Array/],
    ['NaN', [Number.NaN], /\$\[0\] is NaN/],
    ['undefined in an array', [undefined], /\$\[0\] is undefined/],
    ['a function', { f() {} }, /a function/],
    ['a symbol', Symbol('x'), /a symbol/],
    ['a cycle', cycle, /a cycle/],
    ['too deep', deep, /too deeply/],
  ])('%s', (_, value, message) => {
    expect(() => refuseUnsupported(value)).toThrow(expect.objectContaining({ code: 'UNSUPPORTED_VALUE' }));
    expect(() => refuseUnsupported(value)).toThrow(message);
  });

  it('lets shared, non-cyclic parts and undefined properties pass', () => {
    const shared = { a: 1 };
    expect(() => refuseUnsupported({ one: shared, two: shared, three: undefined })).not.toThrow();
  });
});
