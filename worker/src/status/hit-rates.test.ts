import { expect, it } from 'vitest';
import { HitRates, meetsTarget } from './hit-rates.ts';

const NOON = Date.UTC(2026, 10, 1, 12, 30);
const HOUR_MS = 3_600_000;

/** Hashes of hours, and the keys that were asked for. */
function server(hashes: Record<string, string[]>) {
  const asked: string[] = [];
  return {
    asked,
    hashValues: async (key: string) => {
      asked.push(key);
      return hashes[key] ?? [];
    },
  };
}

const quota = (hits: number, misses: number) => JSON.stringify({ quota: { hits, misses } });

it('sums up the isolates of a day', async () => {
  const cache = server({
    'p:fencepost:stats:2026-11-01T12': [quota(3, 1), quota(5, 0)],
    'p:fencepost:stats:2026-10-31T13': [quota(1, 0)],
    'p:fencepost:stats:2026-10-31T12': [quota(0, 100)],
  });
  const rates = await new HitRates(cache, 'p:').read(NOON);
  expect(rates.find((rate) => rate.type === 'quota')).toEqual({
    type: 'quota',
    reads: 10,
    hitRate: 0.9,
    target: 0.8,
  });
  expect(rates.find((rate) => rate.type === 'session')).toMatchObject({ reads: 0, hitRate: null });
});

it('asks again only for the hours that may still change', async () => {
  const cache = server({ 'fencepost:stats:2026-11-01T09': [quota(9, 1)] });
  const rates = new HitRates(cache, '');
  await rates.read(NOON);
  expect(cache.asked.length).toBe(24);
  cache.asked.length = 0;
  const again = await rates.read(NOON);
  expect(cache.asked).toEqual(['fencepost:stats:2026-11-01T12', 'fencepost:stats:2026-11-01T11']);
  expect(again.find((rate) => rate.type === 'quota')?.reads).toBe(10);
  cache.asked.length = 0;
  await rates.read(NOON + HOUR_MS);
  expect(cache.asked).toEqual([
    'fencepost:stats:2026-11-01T13',
    'fencepost:stats:2026-11-01T12',
    'fencepost:stats:2026-11-01T11',
  ]);
});

it('has nothing against a type without reads or without a target', () => {
  expect(meetsTarget({ hitRate: null, target: 0.8 })).toBe(true);
  expect(meetsTarget({ hitRate: 0.1, target: null })).toBe(true);
  expect(meetsTarget({ hitRate: 0.8, target: 0.8 })).toBe(true);
  expect(meetsTarget({ hitRate: 0.79, target: 0.8 })).toBe(false);
});
