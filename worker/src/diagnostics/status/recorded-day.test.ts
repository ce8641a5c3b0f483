import { expect, it } from 'vitest';
import { WorkerError } from '../../lib/errors.ts';
import { RecordedDay } from './recorded-day.ts';

const HOUR_MS = 3_600_000;
const NOON = Date.UTC(2026, 10, 1, 12);
const HALF_PAST = NOON + HOUR_MS / 2;

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

it('gives the last 24 hours, this one first', async () => {
  const cache = server({
    'fencepost:stats:2026-11-01T12': ['a', 'b'],
    'fencepost:stats:2026-10-31T13': ['c'],
    'fencepost:stats:2026-10-31T12': ['too old'],
  });
  const day = await new RecordedDay(cache).read(HALF_PAST);
  expect(day).toHaveLength(24);
  expect(day[0]).toEqual({ startedAt: NOON, fields: ['a', 'b'] });
  expect(day[1]).toEqual({ startedAt: NOON - HOUR_MS, fields: [] });
  expect(day[23]).toEqual({ startedAt: NOON - 23 * HOUR_MS, fields: ['c'] });
});

it('takes an hour for empty under whose key there is something else', async () => {
  const failing = (code: 'UPSTASH_REFUSED' | 'UPSTASH_THROTTLED') => ({
    hashValues: async (key: string) => {
      if (key.endsWith('T11')) throw new WorkerError(code, 'It says no.');
      return ['a'];
    },
  });
  const day = await new RecordedDay(failing('UPSTASH_REFUSED')).read(HALF_PAST);
  expect(day.filter(({ fields }) => fields.length === 0).map(({ startedAt }) => startedAt)).toEqual([
    NOON - HOUR_MS,
  ]);
  await expect(new RecordedDay(failing('UPSTASH_THROTTLED')).read(HALF_PAST)).rejects.toThrow('says no');
});

it('asks again only for the hours that may still change', async () => {
  const cache = server({ 'fencepost:stats:2026-11-01T09': ['a'] });
  const day = new RecordedDay(cache);
  await day.read(HALF_PAST);
  expect(cache.asked.length).toBe(24);
  cache.asked.length = 0;
  const again = await day.read(HALF_PAST);
  expect(cache.asked).toEqual(['fencepost:stats:2026-11-01T12', 'fencepost:stats:2026-11-01T11']);
  expect(again[3]?.fields).toEqual(['a']);
  cache.asked.length = 0;
  await day.read(HALF_PAST + HOUR_MS);
  expect(cache.asked).toEqual([
    'fencepost:stats:2026-11-01T13',
    'fencepost:stats:2026-11-01T12',
    'fencepost:stats:2026-11-01T11',
  ]);
});
