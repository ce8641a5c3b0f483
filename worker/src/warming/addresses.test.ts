import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseTemplate, type Source } from './addresses.ts';

const COST =
  'https://ref.supabase.co/functions/v1/cost-estimate?provider={provider}&model={model}&input_tokens=0';

const ROWS: Source = { rows: 'select', limit: 1 };
const parse = (text: string) => parseTemplate(text, text.includes('{') ? ROWS : { limit: 1 });
/** A row's address, by its values in the order of the columns. */
function fill(text: string, ...values: (string | null)[]): string | null {
  const template = parse(text);
  return (
    template.fill(
      Object.fromEntries(template.columns.map((column, index) => [column, values[index] ?? null])),
    )?.[0] ?? null
  );
}

describe('parseTemplate', () => {
  it('names the columns, each once and in order', () => {
    expect(parse('http://h/{b}/{a}?again={b}').columns).toEqual(['b', 'a']);
    expect(parse('http://h/f').columns).toEqual([]);
    expect(parse('http://h/f?x={odd "name}').columns).toEqual(['odd "name']);
  });

  it.each([
    'nonsense',
    '/functions/v1/cost-estimate',
    'ftp://h/{a}',
    'file:///etc/{a}',
    'http://{host}/f',
    'http://h.{zone}/f',
    'http://h{rest}',
    'http://h:80{port}/f',
    'http://h:port/f',
    '{all}',
    'http://user:hunter2@h/f',
    'http://{user}@h/f',
    'http://h\\{a}/f',
    'http://h/f#{a}',
    'http://h/f?a={}',
    'http://h/f?a={b',
    'http://h/f?a=b}',
    'http://h/f?a={{b}}',
  ])('refuses %s', (text) => {
    expect(() => parse(text)).toThrow(/An address begins with http/);
    expect(() => parse(text)).toThrow(expect.objectContaining({ code: 'INVALID_TEMPLATE', exitCode: 64 }));
    expect(() => parse(text)).not.toThrow(/hunter2/);
  });
});

describe('fill', () => {
  const TEMPLATE = 'https://h.example:8443/f/{a}/x?b={b}&c=1&a={a}';

  it('brings every value through a URL as it is, and nowhere else', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), fc.string({ unit: 'binary' }), (a, b) => {
        fc.pre(a !== '.' && a !== '..');
        const url = new URL(fill(TEMPLATE, a, b) ?? '');
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
    expect(fill(TEMPLATE, ...row)).toBeNull();
  });

  it('takes dots anywhere else, and none that two values make', () => {
    expect(fill(TEMPLATE, '..a', '..')).toBe('https://h.example:8443/f/..a/x?b=..&c=1&a=..a');
    expect(fill('http://h/{a}{b}', '.', '.')).toBeNull();
    expect(fill('http://h/{a}{b}', '.', 'a')).toBe('http://h/.a');
    expect(fill('http://h/%2E{a}?x=/../', '.')).toBeNull();
    expect(fill('http://h/a?x=/../{a}', '.')).toBe('http://h/a?x=/../.');
  });
});

describe('shown', () => {
  it("hides what the template's query says itself, and shows the row's values", () => {
    const template = parse(`${COST}&apikey=hunter2==&x=hunter2{provider}hunter2&hunter2&y=1`);
    expect(template.fill({ provider: 'open ai', model: 'gpt-5' })?.[1]).toBe(
      'https://ref.supabase.co/functions/v1/cost-estimate?provider=open%20ai&model=gpt-5&input_tokens=…&apikey=…&x=…open%20ai…&…&y=…',
    );
    expect(template.shown).toBe(
      'https://ref.supabase.co/functions/v1/cost-estimate?provider={provider}&model={model}&input_tokens=…&apikey=…&x=…{provider}…&…&y=…',
    );
    expect(parse('http://h/f?hunter2').shown).toBe('http://h/f?…');
    expect(parse('http://h/a=1/f').shown).toBe('http://h/a=1/f');
    expect(parse('http://h/f?{a}hunter2&b=c').fill({ a: 'x' })?.[1]).not.toContain('hunter2');
  });
});
