import { expect, it } from 'vitest';
import { hitRates, meetsTarget } from './hit-rates.ts';

const quota = (hits: number, misses: number) => JSON.stringify({ quota: { hits, misses }, '#commands': 7 });

it('sums up the isolates of a day', () => {
  const rates = hitRates([
    { startedAt: 2, fields: [quota(3, 1), quota(5, 0)] },
    { startedAt: 1, fields: [] },
    { startedAt: 0, fields: [quota(1, 0), '{"#worker":3}'] },
  ]);
  expect(rates.find((rate) => rate.type === 'quota')).toEqual({
    type: 'quota',
    reads: 10,
    hitRate: 0.9,
    target: 0.8,
  });
  expect(rates.find((rate) => rate.type === 'session')).toMatchObject({ reads: 0, hitRate: null });
});

it('has nothing against a type without reads or without a target', () => {
  expect(meetsTarget({ hitRate: null, target: 0.8 })).toBe(true);
  expect(meetsTarget({ hitRate: 0.1, target: null })).toBe(true);
  expect(meetsTarget({ hitRate: 0.8, target: 0.8 })).toBe(true);
  expect(meetsTarget({ hitRate: 0.79, target: 0.8 })).toBe(false);
});
