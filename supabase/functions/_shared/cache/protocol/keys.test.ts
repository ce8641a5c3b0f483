import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CacheError } from './errors.ts';
import { canonicalSegment, encodeSegment, keyBuilders } from './keys.ts';

const keys = keyBuilders({
  quota: { key: 'quota:{org}:{provider}:{model}', entity: 2, ttl: 60 },
  session: { key: 'session:{id}:state', entity: 2, ttl: 60 },
  usage: { key: 'usage:{org}:{start:date}:{end:date}', entity: 2, ttl: 60 },
  price: { key: 'price:{priceList}:{line1:integer}:{net:numeric}:{isGross:boolean}', entity: 2, ttl: 60 },
});

const invalidKey = expect.objectContaining({ code: 'INVALID_KEY' });

describe('encodeSegment', () => {
  it.each([
    ['org-123', 'org-123'],
    ['', ''],
    ['ai21.jamba-1-5-large-v1:0', 'ai21.jamba-1-5-large-v1%3A0'],
    ['*', '%2A'],
    ['~abc', '%7Eabc'],
    ["a-_.!'()z", "a-_.!'()z"],
    ['?[]\\^', '%3F%5B%5D%5C%5E'],
    ['50%', '50%25'],
    ['a\nb', 'a%0Ab'],
    ['é😀', '%C3%A9%F0%9F%98%80'],
    ['a'.repeat(200), 'a'.repeat(200)],
    ['*'.repeat(200), '%2A'.repeat(200)],
  ])('%j', (raw, encoded) => {
    expect(encodeSegment(raw)).toBe(encoded);
  });

  it('hashes what exceeds 200 bytes of UTF-8, not 200 characters', () => {
    const long = 'é'.repeat(101);
    expect(encodeSegment('é'.repeat(100))).toBe('%C3%A9'.repeat(100));
    expect(encodeSegment(long)).toBe(`~${createHash('sha256').update(long, 'utf8').digest('hex')}`);
  });

  it.each(['\ud800', 'a\udc00', `${'a'.repeat(300)}\ud800`, 'a\0b'])('refuses %j', (raw) => {
    expect(() => encodeSegment(raw)).toThrow(invalidKey);
    expect(() => encodeSegment(raw)).toThrow(CacheError);
  });

  it('never maps two tuples to one key, and never lets a separator or a glob through', () => {
    const segment = fc.string({ unit: 'grapheme', maxLength: 8 }).filter((text) => !text.includes('\0'));
    const hostile = fc.oneof(
      segment,
      fc.constantFrom('', '*', ':', 'a:b', '%3A', '~', '%', '\n', '[a]', 'x'.repeat(300)),
    );
    const tuple = fc.tuple(hostile, hostile, hostile);
    fc.assert(
      fc.property(tuple, tuple, (one, other) => {
        const key = keys.quota(...one);
        expect(key).toMatch(/^quota(:[^:*?[\]\\\s]*){3}$/);
        expect(key === keys.quota(...other)).toBe(JSON.stringify(one) === JSON.stringify(other));
      }),
    );
  });
});

describe('canonical segments', () => {
  it.each([
    ['uuid', 'F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6', 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6'],
    ['uuid', 'f81d4fae7dec11d0a76500a0c91e6bf6', 'f81d4fae-7dec-11d0-a765-00a0c91e6bf6'],
    ['integer', '+007', '7'],
    ['integer', '-0', '0'],
    ['integer', -0, '0'],
    ['integer', -7, '-7'],
    ['integer', 9007199254740993n, '9007199254740993'],
    ['integer', '123456789012345678901234567890', '123456789012345678901234567890'],
    ['boolean', true, 'true'],
    ['boolean', 'false', 'false'],
    ['numeric', 1.5, '1.5'],
    ['numeric', -0, '0'],
    ['numeric', '-0.00', '0'],
    ['numeric', '+007.50', '7.5'],
    ['numeric', '.5', '0.5'],
    ['numeric', '5.', '5'],
    ['numeric', '1200', '1200'],
    ['numeric', 1e21, '1000000000000000000000'],
    ['numeric', 1e-7, '0.0000001'],
    ['numeric', '12.5e-3', '0.0125'],
    ['numeric', '-1.25E1', '-12.5'],
    ['numeric', 9007199254740993n, '9007199254740993'],
    ['date', '2026-11-01', '2026-11-01'],
    ['date', new Date('2026-11-01T23:59:59Z'), '2026-11-01'],
    ['date', '0001-01-01', '0001-01-01'],
    ['instant', '2026-11-01T10:00:00Z', '2026-11-01T10:00:00Z'],
    ['instant', '2026-11-01T10:00:00.000Z', '2026-11-01T10:00:00Z'],
    ['instant', '2026-11-01 12:30:00.250000+02:30', '2026-11-01T10:00:00.25Z'],
    ['instant', '2026-11-01T10:00:00.000001+00', '2026-11-01T10:00:00.000001Z'],
    ['instant', '2026-10-31T23:59:59.999999-0100', '2026-11-01T00:59:59.999999Z'],
    ['instant', new Date('2026-11-01T10:00:00.120Z'), '2026-11-01T10:00:00.12Z'],
  ] as const)('%s %s', (type, value, canonical) => {
    expect(canonicalSegment(type, value, 'x')).toBe(canonical);
  });

  it.each([
    ['uuid', 'f81d4fae'],
    ['uuid', 'g81d4fae-7dec-11d0-a765-00a0c91e6bf6'],
    ['uuid', 'f81d4fae7-dec-11d0-a765-00a0c91e6bf6'],
    ['integer', 1.5],
    ['integer', 2 ** 53],
    ['integer', '1e3'],
    ['integer', ''],
    ['boolean', 1],
    ['boolean', 'yes'],
    ['numeric', Number.NaN],
    ['numeric', Number.POSITIVE_INFINITY],
    ['numeric', ''],
    ['numeric', '.'],
    ['numeric', '1,5'],
    ['numeric', '1e1001'],
    ['numeric', '1e-1001'],
    ['numeric', '9'.repeat(1_001)],
    ['date', '2026-02-30'],
    ['date', '2026-1-5'],
    ['date', '0000-01-01'],
    ['date', new Date(Number.NaN)],
    ['instant', '2026-11-01T10:00:00'],
    ['instant', '2026-11-01T10:00:00.1234567Z'],
    ['instant', '2026-02-30T10:00:00Z'],
    ['instant', '2026-11-01T24:00:00Z'],
    ['instant', '0001-01-01T00:00:00+02:00'],
    ['text', 5],
    ['text', undefined],
  ] as const)('refuses %s %s', (type, value) => {
    expect(() => canonicalSegment(type, value, 'x')).toThrow(invalidKey);
  });

  it('does not repeat a refused value', () => {
    expect(() => canonicalSegment('uuid', 'secret-value', 'x')).toThrow(/^((?!secret).)*$/);
  });
});

describe('builders', () => {
  it('take the variable segments in order, each as its type says', () => {
    expect(keys.session('s1')).toBe('session:s1:state');
    expect(keys.quota('org-1', 'openai', 'gpt:5')).toBe('quota:org-1:openai:gpt%3A5');
    expect(keys.usage('org-1', '2026-11-01', new Date('2026-11-30T00:00:00Z'))).toBe(
      'usage:org-1:2026-11-01:2026-11-30',
    );
    expect(keys.price('*', 7, '1.50', true)).toBe('price:%2A:7:1.5:true');
  });

  it('say which segment is wrong, and refuse a wrong count', () => {
    expect(() => keys.usage('org-1', 'yesterday', '2026-11-30')).toThrow('keys.usage: start must be a date');
    const untyped = keys.session as (...values: unknown[]) => string;
    expect(() => untyped()).toThrow(invalidKey);
    expect(() => untyped('a', 'b')).toThrow('keys.session takes 1 segments, not 2');
  });
});
