import { describe, expect, it } from 'vitest';
import { answerFrom, endOfPeriod, type QuotaRow } from './index.ts';

const input = { org: 'org-acme', provider: 'openai', model: 'gpt-5-mini' };
const now = Date.parse('2026-11-18T13:37:00Z');
const row: QuotaRow = {
  provider: 'openai',
  model: 'gpt-5-mini',
  limit: 1_000,
  used: 400,
  period: 'month',
  resets_at: '2026-12-01T00:00:00.000Z',
};

describe('answerFrom', () => {
  it('allows while something remains', () => {
    expect(answerFrom(input, row, now)).toEqual({
      ...input,
      allowed: true,
      scope: 'model',
      limit: 1_000,
      used: 400,
      remaining: 600,
      period: 'month',
      resets_at: '2026-12-01T00:00:00.000Z',
    });
  });

  it.each([
    [{ used: 1_000 }, { allowed: false, remaining: 0 }],
    [{ used: 1_200 }, { allowed: false, remaining: 0 }],
    [
      { limit: 0, used: 0 },
      { allowed: false, remaining: 0 },
    ],
    [{ limit: null }, { allowed: true, remaining: null }],
    [{ model: null }, { scope: 'provider' }],
    [{ provider: null, model: null }, { scope: 'organization' }],
  ])('%j gives %j', (change, expected) => {
    expect(answerFrom(input, { ...row, ...change }, now)).toMatchObject(expected);
  });

  it('starts the next period without a new row, so that a cached one is right after the end of its period', () => {
    const after = Date.parse('2026-12-01T00:00:00Z');
    expect(answerFrom(input, { ...row, used: 1_000 }, after)).toMatchObject({
      allowed: true,
      used: 0,
      remaining: 1_000,
      resets_at: '2027-01-01T00:00:00.000Z',
    });
  });
});

describe('endOfPeriod', () => {
  it.each([
    ['hour', '2026-11-18T14:00:00.000Z'],
    ['day', '2026-11-19T00:00:00.000Z'],
    ['week', '2026-11-23T00:00:00.000Z'],
    ['month', '2026-12-01T00:00:00.000Z'],
  ] as const)('ends the %s', (period, expected) => {
    expect(endOfPeriod(period, now)).toBe(expected);
    // The end of a period belongs to the next one.
    expect(Date.parse(endOfPeriod(period, Date.parse(expected)))).toBeGreaterThan(Date.parse(expected));
  });
});
