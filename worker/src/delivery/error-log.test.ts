import pino from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import { type ErrorCode, WorkerError } from '../lib/errors.ts';
import { Trouble } from './error-log.ts';

let now = 0;
let lines: { level: number; msg: string }[] = [];
let trouble: Trouble;

beforeEach(() => {
  now = 0;
  lines = [];
  const log = pino({ base: null }, { write: (line: string) => lines.push(JSON.parse(line)) });
  trouble = new Trouble(log, () => now);
});

const error = (code: ErrorCode) => new WorkerError(code, `${code} is in the way.`);
const said = () => lines.map(({ msg }) => msg);

describe('Trouble', () => {
  it('says at once what begins, every half minute that it lasts, and that it is over', () => {
    for (; now < 90_000; now += 1_000) trouble.report(error('UPSTASH_TIMEOUT'));
    trouble.over();
    trouble.over();
    expect(said()).toEqual([
      'UPSTASH_TIMEOUT is in the way.',
      'Still: UPSTASH_TIMEOUT is in the way.',
      'Still: UPSTASH_TIMEOUT is in the way.',
      'Recovered from UPSTASH_TIMEOUT: invalidations flow.',
    ]);
  });

  it.each([
    ['TRANSACTION_POOLER', 'listener'],
    ['QUEUE_UNAVAILABLE', 'queue'],
  ] as const)('%s is not over because a drain went well', (code, part) => {
    for (; now < 60_000; now += 3_000) {
      trouble.report(error(code), part === 'queue' ? 'flow' : part);
      trouble.over();
    }
    expect(said()).toEqual([`${code} is in the way.`, `Still: ${code} is in the way.`]);
    trouble.over(part);
    expect(said().at(-1)).toBe(`Recovered from ${code}: invalidations flow.`);
  });

  it('says what several parts meet once, and that it is over when it is for all', () => {
    for (const part of ['flow', 'listener', 'locks'] as const)
      trouble.report(error('DATABASE_UNREACHABLE'), part);
    trouble.over('locks');
    trouble.over();
    expect(said()).toEqual(['DATABASE_UNREACHABLE is in the way.']);
    trouble.over('listener');
    expect(said().at(-1)).toBe('Recovered from DATABASE_UNREACHABLE: invalidations flow.');
  });
});
