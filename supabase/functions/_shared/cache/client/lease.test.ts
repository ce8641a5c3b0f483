import { describe, expect, it } from 'vitest';
import { systemRuntime } from '../redis/runtime.ts';
import { UncacheableKeys } from './lease.ts';

function memory() {
  const clock = { now: 0 };
  return { clock, uncacheable: new UncacheableKeys({ ...systemRuntime, monotonic: () => clock.now }) };
}

describe('keys whose values cannot be cached', () => {
  it('are remembered for a minute, or until a value is cached', () => {
    const { clock, uncacheable } = memory();
    expect(uncacheable.has('a')).toBe(false);
    for (const key of ['a', 'b']) uncacheable.note(key, false);
    uncacheable.note('b', true);
    clock.now = 59_999;
    expect([uncacheable.has('a'), uncacheable.has('b')]).toEqual([true, false]);
    clock.now = 60_000;
    expect(uncacheable.has('a')).toBe(false);
  });

  it('are forgotten oldest first when there are too many', () => {
    const { uncacheable } = memory();
    for (let key = 0; key < 1_000; key++) uncacheable.note(String(key), false);
    uncacheable.note('0', false);
    uncacheable.note('one more', false);
    expect(['0', '1', '2', 'one more'].map((key) => uncacheable.has(key))).toEqual([true, false, true, true]);
  });
});
