import { expect, it } from 'vitest';
import { hitRates, meetsTarget } from './hit-rates.ts';

const quota = (hits: number, misses: number, target?: number) =>
  JSON.stringify({ quota: { hits, misses, target }, prefs: {}, other: { hits: 9 }, '#commands': 7 });

it('sums up the isolates of a day, with the types and targets that they wrote down', () => {
  const rates = hitRates([
    // The first is of a reader that wrote down no target yet.
    { startedAt: 2, fields: [quota(3, 1), quota(5, 0, 0.8)] },
    { startedAt: 1, fields: [] },
    { startedAt: 0, fields: [quota(1, 0, 0.8), '{"#worker":3}'] },
  ]);
  expect(rates).toEqual([
    { type: 'quota', reads: 10, hitRate: 0.9, target: 0.8 },
    { type: 'prefs', reads: 0, hitRate: null, target: null },
  ]);
  expect(hitRates([{ startedAt: 0, fields: ['{"#worker":3}', 'nonsense'] }])).toEqual([]);
});

it('has nothing against a type without reads or without a target', () => {
  expect(meetsTarget({ hitRate: null, target: 0.8 })).toBe(true);
  expect(meetsTarget({ hitRate: 0.1, target: null })).toBe(true);
  expect(meetsTarget({ hitRate: 0.8, target: 0.8 })).toBe(true);
  expect(meetsTarget({ hitRate: 0.79, target: 0.8 })).toBe(false);
});
