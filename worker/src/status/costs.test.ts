import { expect, it } from 'vitest';
import { costs } from './costs.ts';

const HOUR_MS = 3_600_000;
const NOON = Date.UTC(2026, 10, 1, 12);

const quota = (hits: number, misses: number, loads: number, commands: number) =>
  JSON.stringify({ quota: { hits, misses, loads }, '#commands': commands });

it('projects the month from the first hour on in which anybody wrote', () => {
  const day = [
    { startedAt: NOON, fields: [quota(80, 20, 15, 260)] },
    { startedAt: NOON - HOUR_MS, fields: [] },
    { startedAt: NOON - 2 * HOUR_MS, fields: [quota(9, 1, 1, 20), '{"#worker":252}'] },
    { startedAt: NOON - 3 * HOUR_MS, fields: [] },
  ];
  expect(costs(day, NOON + HOUR_MS / 2)).toEqual({
    since: '2026-11-01T10:00:00.000Z',
    // in 2.5 hours; 720 hours
    readers: { commands: 280, monthly: 80_640, dollars: expect.closeTo(0.161) },
    worker: { commands: 252, monthly: 72_576, dollars: expect.closeTo(0.145) },
    together: { commands: 532, monthly: 153_216, dollars: expect.closeTo(0.306) },
    reads: 110,
    loads: 16,
  });
});

it('projects nothing from less than an hour, nor from nothing', () => {
  const minutes = costs([{ startedAt: NOON, fields: [quota(1, 1, 1, 9)] }], NOON + HOUR_MS / 2);
  expect(minutes).toMatchObject({ readers: { commands: 9, monthly: null, dollars: null } });
  expect(costs([{ startedAt: NOON, fields: [] }], NOON)).toMatchObject({
    since: null,
    together: { commands: 0, monthly: null },
  });
});
