import { describe, expect, it } from 'vitest';
import { KeyCatalogue } from './key-types.ts';

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
    expect(planned('cost:a')).toEqual([['fence:cost', 'fence:cost:a'], ['fence:cost:a']]);
    const foreign = ['fence:4f1c', 'fence:4f1c:profile'];
    expect(planned('4f1c:profile')).toEqual([foreign, foreign]);
    expect(planned('solo')).toEqual([['fence:solo'], ['fence:solo']]);
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

  it('refuses names that the statistics need, and numbers that mean nothing', () => {
    const type = { key: 'a:{id}', entity: 2, ttl: 60 };
    for (const types of [
      { other: type },
      { '#a': type },
      { '': type },
      { a: { ...type, ttl: -1 } },
      { a: { ...type, ttl: Number.NaN } },
      { a: { ...type, hitRate: 80 } },
    ]) {
      expect(() => new KeyCatalogue(types)).toThrow(
        expect.objectContaining({ code: 'INVALID_CONFIGURATION' }),
      );
    }
  });
});
