import { describe, expect, it } from 'vitest';
import { type BatchColumns, claimedTargets } from './outbox-batch.ts';

const columns: BatchColumns = {
  targets: '{quota:a:*,"quota:\\"b,c\\":*",quota:a:*}',
  watchIds: '{4,NULL,7}',
  ops: '{u,NULL,d}',
  waitedUs: '{1500,250,12000}',
  errors: '{NULL,42703,NULL}',
  intervalsMs: '{NULL,NULL,60000}',
};

describe('claimedTargets', () => {
  it('gives one object for each target and watch', () => {
    const nothing = { watchId: null, op: null, error: null, intervalMs: null };
    expect(claimedTargets(columns)).toEqual([
      { ...nothing, target: 'quota:a:*', watchId: 4, op: 'u', ageMs: 1.5 },
      { ...nothing, target: 'quota:"b,c":*', ageMs: 0.25, error: '42703' },
      { ...nothing, target: 'quota:a:*', watchId: 7, op: 'd', ageMs: 12, intervalMs: 60_000 },
    ]);
  });

  it('takes columns without any value, and a target that is called NULL', () => {
    const plain = { ...columns, targets: '{a:1,"NULL",a:3}', errors: null, intervalsMs: null };
    const targets = claimedTargets(plain);
    expect(targets.map(({ target }) => target)).toEqual(['a:1', 'NULL', 'a:3']);
    expect(targets.every(({ error, intervalMs }) => error === null && intervalMs === null)).toBe(true);
  });

  it('is empty without targets: the changes of a batch may name nothing', () => {
    expect(claimedTargets({ ...columns, targets: null })).toEqual([]);
    expect(claimedTargets({ ...columns, targets: '{}' })).toEqual([]);
  });
});
