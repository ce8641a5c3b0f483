import { expect, it } from 'vitest';
import { costs } from './costs.ts';

const HOUR_MS = 3_600_000;
const NOON = Date.UTC(2026, 10, 1, 12);

const quota = (hits: number, misses: number, loads: number, commands: number) =>
  JSON.stringify({ quota: { hits, misses, loads }, '#commands': commands });

it('projects the month from the hours after the first one in which anybody wrote', () => {
  const day = [
    { startedAt: NOON, fields: [quota(80, 20, 15, 260), '{"#worker":252}'] },
    { startedAt: NOON - HOUR_MS, fields: [] },
    { startedAt: NOON - 2 * HOUR_MS, fields: [quota(9, 1, 1, 20), '{"#worker":250}'] },
    { startedAt: NOON - 3 * HOUR_MS, fields: [] },
  ];
  expect(costs(day, NOON + HOUR_MS / 2)).toEqual({
    since: '2026-11-01T10:00:00.000Z',
    // 260 and 252 in 1.5 hours; 720 hours
    readers: { commands: 280, monthly: 124_800, dollars: expect.closeTo(0.25) },
    worker: { commands: 502, monthly: 120_960, dollars: expect.closeTo(0.242) },
    together: { commands: 782, monthly: 245_760, dollars: expect.closeTo(0.492) },
    reads: 110,
    loads: 16,
  });
});

it('projects nothing without a whole hour, nor from nothing', () => {
  const began = { startedAt: NOON - HOUR_MS, fields: [quota(1, 1, 1, 1500)] };
  for (const minutes of [0, 1, 59]) {
    const early = costs([{ startedAt: NOON, fields: [] }, began], NOON + minutes * 60_000);
    expect(early).toMatchObject({ readers: { commands: 1500, monthly: null, dollars: null } });
  }
  expect(costs([{ startedAt: NOON, fields: [] }, began], NOON + HOUR_MS).readers.monthly).toBe(0);
  expect(costs([{ startedAt: NOON, fields: [] }], NOON)).toMatchObject({
    since: null,
    together: { commands: 0, monthly: null },
  });
});
