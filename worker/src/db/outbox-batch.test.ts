import { describe, expect, it } from 'vitest';
import { type BatchColumns, BatchRows } from './outbox-batch.ts';

const columns: BatchColumns = {
  xids: '{700,700,701}',
  ids: '{1,2,33}',
  targets: '{quota:a:*,quota:b:*,quota:a:*}',
  watchIds: '{4,NULL,4}',
  ops: '{u,NULL,d}',
  waitedUs: '{1500,250,12000}',
  errors: '{NULL,42703,NULL}',
};

describe('BatchRows', () => {
  it('gives each row when it is asked for, and names all of them as they came', () => {
    const rows = new BatchRows(columns);
    expect([rows.length, rows.xids, rows.ids, rows.oldestMs]).toEqual([3, columns.xids, columns.ids, 12]);
    expect(rows.at(0)).toEqual({ target: 'quota:a:*', watchId: 4, op: 'u', ageMs: 1.5, error: null });
    expect(rows.at(1)).toEqual({
      target: 'quota:b:*',
      watchId: null,
      op: null,
      ageMs: 0.25,
      error: '42703',
    });
    expect(rows.at(3)).toBeUndefined();
  });

  it('keeps names and rows together when only some are meant, twice over', () => {
    const some = new BatchRows(columns).without(['1']);
    expect([some.xids, some.ids, some.targets]).toEqual(['{700,701}', '{2,33}', ['quota:b:*', 'quota:a:*']]);
    expect(some.at(1)).toMatchObject({ target: 'quota:a:*', op: 'd' });
    const one = some.filter((row) => row.op === 'd');
    expect([one.length, one.xids, one.ids, one.at(0)?.ageMs]).toEqual([1, '{701}', '{33}', 12]);
    const none = one.filter(() => false);
    expect([none.length, none.xids, none.ids]).toEqual([0, '{}', '{}']);
  });

  it('is empty without columns', () => {
    const rows = new BatchRows(null);
    expect([rows.length, rows.ids, rows.at(0), rows.hasErrors, rows.oldestMs]).toEqual([
      0,
      '{}',
      undefined,
      false,
      0,
    ]);
  });
});
