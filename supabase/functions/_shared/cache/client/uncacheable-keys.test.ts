import { describe, expect, it } from 'vitest';
import { systemRuntime } from '../redis/runtime.ts';
import { UnkeptKeys } from './uncacheable-keys.ts';

function memory() {
  const clock = { now: 0 };
  return { clock, unkept: new UnkeptKeys({ ...systemRuntime, monotonic: () => clock.now }) };
}

describe('keys whose values cannot be kept', () => {
  it('are remembered for a minute, or until a value is kept', () => {
    const { clock, unkept } = memory();
    expect(unkept.has('a')).toBe(false);
    for (const key of ['a', 'b']) unkept.note(key, false);
    unkept.note('b', true);
    clock.now = 59_999;
    expect([unkept.has('a'), unkept.has('b')]).toEqual([true, false]);
    clock.now = 60_000;
    expect(unkept.has('a')).toBe(false);
  });

  it('are forgotten oldest first when there are too many', () => {
    const { unkept } = memory();
    for (let key = 0; key < 1_000; key++) unkept.note(String(key), false);
    unkept.note('0', false);
    unkept.note('one more', false);
    expect(['0', '1', '2', 'one more'].map((key) => unkept.has(key))).toEqual([true, false, true, true]);
  });
});
