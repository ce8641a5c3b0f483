import { describe, expect, it } from 'vitest';
import { KeyCatalogue, type KeyTypes } from './key-types.ts';

const catalogue = new KeyCatalogue({
  prefs: { key: 'user:{user}:prefs', entity: 2, ttl: 60 },
  cost: { key: 'cost:{provider}:{model}', entity: 3, ttl: 60 },
  line: { key: 'line:{orderId}:{line1:integer}', entity: 2, ttl: 60 },
});

describe('a catalogue of key types', () => {
  it('finds the type of a key by its literal segments and their number', () => {
    expect(catalogue.typeOf('user:u1:prefs')?.name).toBe('prefs');
    expect(catalogue.typeOf('line:o1:3')?.name).toBe('line');
    expect(catalogue.typeOf('user:u1:orders')).toBeUndefined();
    expect(catalogue.typeOf('cost:openai')).toBeUndefined();
    expect(catalogue.typeOf('constructor:x')).toBeUndefined();
  });

  it('plans a key: its fences by its entity, all but a declared first segment of them expiring', () => {
    const planned = (key: string) => {
      const { fences, expiring } = catalogue.planFor(key);
      return [fences, expiring];
    };
    expect(planned('cost:a:b')).toEqual([
      ['fence:cost', 'fence:cost:a:*', 'fence:cost:a:b'],
      ['fence:cost:a:*', 'fence:cost:a:b'],
    ]);
    // Of no type, but under the fence of one.
    expect(planned('cost:a:b:c')[0]).toEqual([
      'fence:cost',
      'fence:cost:a:*',
      'fence:cost:a:b:*',
      'fence:cost:a:b:c',
    ]);
    expect(planned('cost:a')).toEqual([['fence:cost', 'fence:cost:a'], ['fence:cost:a']]);
    const foreign = ['fence:4f1c', 'fence:4f1c:profile'];
    expect(planned('4f1c:profile')).toEqual([foreign, foreign]);
    expect(planned('solo')).toEqual([['fence:solo'], ['fence:solo']]);
  });

  it('takes no key for the plan of another, whatever its text', () => {
    catalogue.planFor('page:1', ['user:7:*']);
    expect(() => catalogue.planFor('["page:1","user:7:*"]')).toThrow(
      expect.objectContaining({ code: 'INVALID_KEY' }),
    );
  });

  it.each([
    ['{id}:x', 2],
    ['fence:{id}', 2],
    ['a:{id:money}', 2],
    ['a:{1st}', 2],
    ['a::b', 2],
    ['a:b*', 2],
    ['a:x{id}', 2],
    ['a:{id}', 3],
    ['a:{id}', 1],
    ['a', 2],
  ])('refuses the template %s with an entity of %i', (key, entity) => {
    expect(() => new KeyCatalogue({ mine: { key, entity, ttl: 60 } })).toThrow(
      expect.objectContaining({ code: 'INVALID_CONFIGURATION', message: expect.stringContaining('mine') }),
    );
  });

  const type = { key: 'a:{id}', entity: 2, ttl: 60 };
  const keyed = (key: unknown) => ({ mine: { ...type, key } });
  it.each([
    ['a type named other', { other: type }, /"other".* name/],
    ['a name for counters', { '#a': type }, /"#a".* name/],
    ['no name', { '': type }, /"".* name/],
    ['a name of two lines', { 'a\nb': type }, /"a\\nb".* printable/],
    ['no types', 5, /types must be an object/],
    ['a list of types', [type], /types must be an object/],
    ['null for types', null, /types must be an object/],
    ['null', { mine: null }, /"mine".* key: "order/],
    ['a template alone', { mine: 'a:{id}' }, /"mine".* key: "order/],
    ['no template', keyed(undefined), /"mine".* key: "order/],
    ['a literal with an accent', keyed('café:{id}'), /"mine".*A-Z a-z 0-9/],
    ['a literal with an at sign', keyed('user@app:{id}'), /"mine".*A-Z a-z 0-9/],
    ['a literal with a space', keyed('order items:{id}'), /"mine".*A-Z a-z 0-9/],
    ['a literal with a plus', keyed('a:{id}:q+x'), /"mine".*A-Z a-z 0-9/],
    ['a line break', keyed('a:{id}:b\n'), /"mine".*A-Z a-z 0-9/],
    ['a long literal', keyed(`${'a'.repeat(201)}:{id}`), /"mine".* 200 /],
    [
      'too many segments',
      keyed(['a', ...Array.from({ length: 32 }, (_, n) => `{v${n}}`)].join(':')),
      /"mine".* 32 /,
    ],
    ['a variable at the start', keyed('{a}:{a}'), /"mine".* start with literal text/],
    ['a variable twice', keyed('x:{a}:{a}'), /"mine".* twice/],
    ['a ttl below 0', { mine: { ...type, ttl: -1 } }, /"mine".* ttl .* from 0/],
    ['a ttl that is none', { mine: { ...type, ttl: Number.NaN } }, /"mine".* ttl /],
    ['a ttl as text without a unit', { mine: { ...type, ttl: '60' } }, /"mine".* ttl /],
    ['a ttl that set would refuse', { mine: { ...type, ttl: 1e12 } }, /"mine".* ttl .* to 315360000/],
    ['a rate in per cent', { mine: { ...type, hitRate: 80 } }, /"mine".* hitRate /],
    ['a rate as text', { mine: { ...type, hitRate: '0.7' } }, /"mine".* hitRate /],
    ['a word for degraded', { mine: { ...type, degraded: 'no' } }, /"mine".* degraded /],
    [
      'one template twice',
      { first: type, mine: { ...type, key: 'a:{other:date}' } },
      /"mine".* of type first/,
    ],
    ['what another covers', { first: type, mine: { ...type, key: 'a:b' } }, /"mine".* of type first/],
  ])('refuses %s, with the remedy', (_, types, message) => {
    expect(() => new KeyCatalogue(types as unknown as KeyTypes)).toThrow(
      expect.objectContaining({ code: 'INVALID_CONFIGURATION', message: expect.stringMatching(message) }),
    );
  });

  it('takes every literal that watch() takes, and types that overlap', () => {
    const types = { a: { ...type, key: "A.b!c'(d)-e_9:{id}" }, b: { ...type, key: 'a:b' }, c: type };
    expect(new KeyCatalogue(types).typeOf('a:b')?.name).toBe('b');
    expect(new KeyCatalogue(types).typeOf('a:c')?.name).toBe('c');
  });
});
