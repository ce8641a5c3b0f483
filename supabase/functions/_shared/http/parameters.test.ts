import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_BODY_BYTES, readParameters } from './parameters.ts';
import { Problem } from './problem.ts';

const url = 'http://functions.test/functions/v1/quota-check';
const get = (query: string) => readParameters(new Request(`${url}?${query}`));
const post = (body: BodyInit, headers: Record<string, string> = { 'content-type': 'application/json' }) =>
  readParameters(new Request(url, { method: 'POST', body, headers }));

async function problemOf(work: Promise<unknown> | (() => unknown)): Promise<Problem> {
  try {
    await (typeof work === 'function' ? work() : work);
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
  throw new Error('No problem was reported.');
}

describe('parameters', () => {
  it('reads the same from a query and from a body', async () => {
    const fromQuery = await get('org=org-acme&model=ai21.jamba-1-5-large-v1%3A0');
    const fromBody = await post('{"org":"org-acme","model":"ai21.jamba-1-5-large-v1:0"}');
    for (const parameters of [fromQuery, fromBody]) {
      expect(parameters.identifier('org')).toBe('org-acme');
      expect(parameters.identifier('model')).toBe('ai21.jamba-1-5-large-v1:0');
    }
  });

  it('returns any printable identifier unchanged', async () => {
    const printable = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 60 })
      .filter((text) => !/[\p{Cc}\p{Cs}\u2028\u2029\ufeff]/u.test(text));
    await fc.assert(
      fc.asyncProperty(printable, async (text) => {
        const parameters = await post(JSON.stringify({ org: text }));
        expect(parameters.identifier('org')).toBe(text);
        expect((await get(new URLSearchParams({ org: text }).toString())).identifier('org')).toBe(text);
      }),
    );
  });

  it.each([
    ['a control character', '{"org":"a\\u0000b"}'],
    ['a line break', '{"org":"a\\nb"}'],
    ['half of a surrogate pair', '{"org":"\\ud800"}'],
    ['an empty name', '{"org":""}'],
    ['10 kB', JSON.stringify({ org: 'x'.repeat(10_000) })],
    ['a number', '{"org":7}'],
    ['null', '{"org":null}'],
  ])('refuses %s as an identifier and names the field', async (_what, body) => {
    const parameters = await post(body);
    const problem = await problemOf(() => parameters.identifier('org'));
    expect(problem).toMatchObject({ code: 'INVALID_PARAMETER', status: 400, field: 'org' });
  });

  it('refuses a name given twice, in a query and in a body', async () => {
    expect(await problemOf(get('org=a&org=b'))).toMatchObject({ code: 'INVALID_PARAMETER', field: 'org' });
    expect(await problemOf(get('%3Cb%3E=a&%3Cb%3E=b'))).toMatchObject({ field: 'unknown' });
    expect(await problemOf(post('{"org":"a","org":"b"}'))).toMatchObject({ code: 'INVALID_BODY' });
    // The same name, written with an escape.
    expect(await problemOf(post('{"org":"a","\\u006frg":"b"}'))).toMatchObject({ code: 'INVALID_BODY' });
  });

  it('is not confused by brackets and colons inside strings', async () => {
    const parameters = await post('{"org":"{[:\\"]}:","model":"::"}');
    expect(parameters.identifier('org')).toBe('{[:"]}:');
    const backslash = await post('{"org":"\\\\","model":"b"}');
    expect(backslash.identifier('org')).toBe('\\');
  });

  it('counts names as JSON does, with any characters in them', async () => {
    const text = fc.string({ unit: fc.constantFrom('"', '\\', ':', '{', ']', 'a', '\u2028'), maxLength: 8 });
    const flat = fc.dictionary(text, text, { maxKeys: 5 });
    await fc.assert(
      fc.asyncProperty(flat, async (object) => {
        (await post(JSON.stringify(object))).allowOnly(Object.keys(object));
      }),
    );
  });

  it('refuses nesting of any depth without parsing it', async () => {
    for (const body of [
      '{"org":{"a":1}}',
      '{"org":["a"]}',
      `${'['.repeat(7_000)}`,
      `${'{"a":'.repeat(3_000)}`,
    ]) {
      expect(await problemOf(post(body))).toMatchObject({ code: 'INVALID_BODY', status: 400 });
    }
  });

  it('takes text and numbers, and neither null nor true', async () => {
    const { message } = await problemOf(post('{"org":{}}'));
    expect(message).toContain('give text or numbers.');
    expect((await post('{"org":"a","input_tokens":7}')).count('input_tokens')).toBe(7);
    for (const value of ['null', 'true']) {
      const parameters = await post(`{"org":${value},"input_tokens":${value}}`);
      expect((await problemOf(() => parameters.identifier('org'))).code).toBe('INVALID_PARAMETER');
      expect((await problemOf(() => parameters.count('input_tokens'))).code).toBe('INVALID_PARAMETER');
    }
  });

  it.each(['', 'null', '[]', '"a"', '7', '{', '{"org":"a"} {}', '{"org":}', '\u0000'])(
    'refuses the body %j',
    async (body) => {
      expect(await problemOf(post(body))).toMatchObject({ code: 'INVALID_BODY' });
    },
  );

  it('refuses bytes that are not UTF-8', async () => {
    expect(await problemOf(post(new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x7d])))).toMatchObject({
      code: 'INVALID_BODY',
    });
  });

  it('stops reading a body at the limit, without trusting its declared length', async () => {
    let pulled = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => {
        pulled += 1;
        controller.enqueue(new Uint8Array(1_024).fill(0x20));
      },
    });
    const request = new Request(url, {
      method: 'POST',
      body: endless,
      headers: { 'content-type': 'application/json' },
      duplex: 'half',
    } as RequestInit);
    expect(await problemOf(readParameters(request))).toMatchObject({ code: 'BODY_TOO_LARGE', status: 413 });
    expect(pulled).toBeLessThan(MAX_BODY_BYTES / 1_024 + 4);
  });

  it('takes JSON in a POST, and no query', async () => {
    expect(await problemOf(post('org=a', { 'content-type': 'text/plain' }))).toMatchObject({ status: 415 });
    const request = new Request(`${url}?org=a`, { method: 'POST', body: '{}' });
    expect(await problemOf(readParameters(request))).toMatchObject({
      code: 'INVALID_PARAMETER',
      field: 'query',
    });
  });

  it('takes a POST with neither type nor body as one without parameters', async () => {
    const parameters = await readParameters(new Request(url, { method: 'POST' }));
    expect(() => parameters.allowOnly([])).not.toThrow();
    const untyped = new Request(url, { method: 'POST', body: new TextEncoder().encode('{"org":"a"}') });
    expect(await problemOf(readParameters(untyped))).toMatchObject({ status: 415 });
  });

  it('ignores the region that supabase-js puts into the address', async () => {
    const read = await get('org=a&forceFunctionRegion=eu-central-1');
    expect(() => read.allowOnly(['org'])).not.toThrow();
    const request = new Request(`${url}?forceFunctionRegion=eu-central-1`, { method: 'POST' });
    (await readParameters(request)).allowOnly([]);
  });

  it('refuses unknown names without repeating hostile ones', async () => {
    const known = ['org'];
    const misspelt = await get('org=a&modell=b');
    expect(await problemOf(() => misspelt.allowOnly(known))).toMatchObject({ field: 'modell' });
    const hostile = await get(`${encodeURIComponent('<script>')}=1`);
    expect(await problemOf(() => hostile.allowOnly(known))).toMatchObject({ field: 'unknown' });
    const prototype = await post('{"__proto__":"x"}');
    expect(await problemOf(() => prototype.allowOnly(known))).toMatchObject({ field: '__proto__' });
  });
});

describe('counts', () => {
  it.each([
    ['0', 0],
    ['999999999999999', 999_999_999_999_999],
  ])('accepts %s', async (text, value) => {
    expect((await get(`n=${text}`)).count('n')).toBe(value);
    expect((await post(`{"n":${text}}`)).count('n')).toBe(value);
  });

  it.each(['-1', '1.5', '1e99', '9999999999999999', '01', ' 1', '', 'NaN', '0x10'])(
    'refuses %j',
    async (text) => {
      const parameters = await get(new URLSearchParams({ n: text }).toString());
      expect(await problemOf(() => parameters.count('n'))).toMatchObject({ field: 'n', status: 400 });
    },
  );
});

describe('dates', () => {
  it('accepts every calendar day of the century and returns it unchanged', async () => {
    const day = fc.date({ min: new Date('2000-01-01'), max: new Date('2100-12-31'), noInvalidDate: true });
    await fc.assert(
      fc.asyncProperty(day, async (date) => {
        const text = date.toISOString().slice(0, 10);
        expect((await get(`d=${text}`)).date('d')).toBe(text);
      }),
    );
  });

  it.each([
    '2026-02-30',
    '2025-02-29',
    '2026-13-01',
    '2026-1-1',
    '1999-12-31',
    '2101-01-01',
    '2026-11-01T00:00:00Z',
  ])('refuses %s', async (text) => {
    const parameters = await get(`d=${encodeURIComponent(text)}`);
    expect(await problemOf(() => parameters.date('d'))).toMatchObject({ field: 'd' });
  });
});
