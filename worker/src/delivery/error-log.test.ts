import pino from 'pino';
import { beforeEach, describe, expect, it } from 'vitest';
import { type ErrorCode, WorkerError } from '../lib/errors.ts';
import { ErrorLog } from './error-log.ts';

let now = 0;
let lines: { level: number; msg: string }[] = [];
let errors: ErrorLog;

beforeEach(() => {
  now = 0;
  lines = [];
  const log = pino({ base: null }, { write: (line: string) => lines.push(JSON.parse(line)) });
  errors = new ErrorLog(log, () => now);
});

const error = (code: ErrorCode) => new WorkerError(code, `${code} is in the way.`);
const logged = () => lines.map(({ msg }) => msg);

describe('ErrorLog', () => {
  it('logs an error when it begins, every 30 s while it lasts, and when it is over', () => {
    for (; now < 90_000; now += 1_000) errors.report(error('UPSTASH_TIMEOUT'));
    errors.over();
    errors.over();
    expect(logged()).toEqual([
      'UPSTASH_TIMEOUT is in the way.',
      'Still: UPSTASH_TIMEOUT is in the way.',
      'Still: UPSTASH_TIMEOUT is in the way.',
      'Recovered from UPSTASH_TIMEOUT: invalidations flow.',
    ]);
  });

  it.each([
    ['TRANSACTION_POOLER', 'listener'],
    ['QUEUE_UNAVAILABLE', 'queue'],
  ] as const)('%s is not over because a delivery succeeded', (code, source) => {
    for (; now < 60_000; now += 3_000) {
      errors.report(error(code), source === 'queue' ? 'delivery' : source);
      errors.over();
    }
    expect(logged()).toEqual([`${code} is in the way.`, `Still: ${code} is in the way.`]);
    errors.over(source);
    expect(logged().at(-1)).toBe(`Recovered from ${code}: invalidations flow.`);
  });

  it('logs an error of several sources once, and its end when it is over for all', () => {
    for (const source of ['delivery', 'listener', 'locks'] as const)
      errors.report(error('DATABASE_UNREACHABLE'), source);
    errors.over('locks');
    errors.over();
    expect(logged()).toEqual(['DATABASE_UNREACHABLE is in the way.']);
    errors.over('listener');
    expect(logged().at(-1)).toBe('Recovered from DATABASE_UNREACHABLE: invalidations flow.');
  });
});
