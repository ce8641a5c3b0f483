import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseTemplate } from './template.ts';

const COST =
  'https://ref.supabase.co/functions/v1/cost-estimate?provider={provider}&model={model}&input_tokens=0';

describe('parseTemplate', () => {
  it('names the columns, each once and in order', () => {
    expect(parseTemplate('http://h/{b}/{a}?again={b}').columns).toEqual(['b', 'a']);
    expect(parseTemplate('http://h/f').columns).toEqual([]);
    expect(parseTemplate('http://h/f?x={"odd "" { } name"}').columns).toEqual(['odd " { } name']);
  });

  it.each([
    ['nonsense', /must begin with http/],
    ['/functions/v1/cost-estimate', /must begin with http/],
    ['ftp://h/{a}', /must begin with http/],
    ['file:///etc/{a}', /must begin with http/],
    ['http://{host}/f', /the host is the same for every row/],
    ['http://h.{zone}/f', /the host is the same for every row/],
    ['http://h{rest}', /the host is the same for every row/],
    ['http://h:80{port}/f', /must begin with http/],
    ['{all}', /must begin with http/],
    ['http://user:hunter2@h/f', /Leave user and password out/],
    ['http://{user}@h/f', /Leave user and password out/],
    ['http://h/f#{a}', /What follows a # is never sent/],
    ['http://h/f?a={}', /A placeholder is \{column\}/],
    ['http://h/f?a={b', /A placeholder is \{column\}/],
    ['http://h/f?a=b}', /A placeholder is \{column\}/],
    ['http://h/f?a={{b}}', /A placeholder is \{column\}/],
    ['http://h/f?a={"b}', /A placeholder is \{column\}/],
  ])('refuses %s', (text, message) => {
    expect(() => parseTemplate(text)).toThrow(message);
    expect(() => parseTemplate(text)).toThrow(
      expect.objectContaining({ code: 'INVALID_TEMPLATE', exitCode: 64 }),
    );
    expect(() => parseTemplate(text)).not.toThrow(/hunter2/);
  });
});

describe('fill', () => {
  const template = parseTemplate('https://h.example:8443/f/{a}/x?b={b}&c=1&a={a}');

  it('brings every value through a URL as it is, and nowhere else', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), fc.string({ unit: 'binary' }), (a, b) => {
        fc.pre(a !== '.' && a !== '..');
        const url = new URL(template.fill([a, b]) ?? '');
        expect(url.origin).toBe('https://h.example:8443');
        expect(url.pathname.split('/').map(decodeURIComponent)).toEqual(['', 'f', a, 'x']);
        expect([...url.searchParams]).toEqual([
          ['b', b],
          ['c', '1'],
          ['a', a],
        ]);
      }),
    );
  });

  it.each([
    ['NULL', [null, 'b']],
    ['a missing value', ['a']],
    ['a segment .', ['.', 'b']],
    ['a segment ..', ['..', 'b']],
  ])('has no address for a row with %s', (_, row) => {
    expect(template.fill(row)).toBeNull();
  });

  it('takes dots anywhere else, and none that two values make', () => {
    expect(template.fill(['..a', '..'])).toBe('https://h.example:8443/f/..a/x?b=..&c=1&a=..a');
    const joined = parseTemplate('http://h/{a}{b}');
    expect(joined.fill(['.', '.'])).toBeNull();
    expect(joined.fill(['.', 'a'])).toBe('http://h/.a');
    expect(parseTemplate('http://h/%2E{a}?x=/../').fill(['.'])).toBeNull();
    expect(parseTemplate('http://h/a?x=/../{a}').fill(['.'])).toBe('http://h/a?x=/../.');
  });
});

describe('show', () => {
  it("hides what the template's query says itself, and shows the row's values", () => {
    const template = parseTemplate(`${COST}&apikey=hunter2&x=hunter2{provider}hunter2&y=1`);
    expect(template.show(['open ai', 'gpt-5'])).toBe(
      'https://ref.supabase.co/functions/v1/cost-estimate?provider=open%20ai&model=gpt-5&input_tokens=…&apikey=…&x=…open%20ai…&y=…',
    );
    expect(template.show()).toBe(
      'https://ref.supabase.co/functions/v1/cost-estimate?provider={provider}&model={model}&input_tokens=…&apikey=…&x=…{provider}…&y=…',
    );
    expect(parseTemplate('http://h/f?hunter2').show()).toBe('http://h/f?…');
    expect(parseTemplate('http://h/f?{a}hunter2&b=c').show(['x'])).toBe('http://h/f?x…&b=…');
  });
});
