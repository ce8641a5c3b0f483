import { describe, expect, it } from 'vitest';
import { systemRuntime } from '../redis/runtime.ts';
import { RecentMisses } from './recent-misses.ts';

const stamp = (fence: string, epoch: string | null = 'e1') => ({ fences: [fence], epoch, loadedAt: 1 });

function recentMisses() {
  const clock = { now: 0 };
  return { clock, misses: new RecentMisses({ ...systemRuntime, monotonic: () => clock.now }) };
}

describe('recent misses', () => {
  it('gives the oldest stamp of the last 30 s, however often it is asked', () => {
    const { clock, misses } = recentMisses();
    expect(misses.oldest('k')).toBeUndefined();
    misses.remember('k', stamp('f1'));
    clock.now = 10_000;
    misses.remember('k', stamp('f2'));
    expect([misses.oldest('k'), misses.oldest('k')]).toEqual([stamp('f1'), stamp('f1')]);
    clock.now = 30_001;
    expect(misses.oldest('k')).toEqual(stamp('f2'));
    clock.now = 40_001;
    expect(misses.oldest('k')).toBeUndefined();
  });

  it('keeps a stamp for 30 s after the last miss that saw it', () => {
    const { clock, misses } = recentMisses();
    misses.remember('k', stamp('f1'));
    clock.now = 20_000;
    misses.remember('k', stamp('f1'));
    misses.remember('k', stamp('f1', 'e2'));
    clock.now = 50_000;
    expect(misses.oldest('k')).toEqual(stamp('f1'));
    clock.now = 50_001;
    expect(misses.oldest('k')).toBeUndefined();
  });

  it('forbids the set after a get that could not confirm its fences', () => {
    const { misses } = recentMisses();
    misses.remember('k', null);
    misses.remember('k', stamp('f1'));
    expect(misses.oldest('k')).toBeNull();
  });

  it('keeps eight stamps of a key: the oldest stands for those that had to go, and recovers once they are past', () => {
    const { clock, misses } = recentMisses();
    // Every get of this key misses under another fence, since something deletes it all the time.
    for (let second = 0; second < 100; second++) {
      clock.now = second * 1_000;
      misses.remember('k', stamp(`f${second}`));
    }
    expect(misses.oldest('k')).toEqual(stamp('f0'));
    expect(misses.remembered('k')).toBe(8);
    // Then it stops, and the last fence stands: 30 s later a set is stamped with it.
    for (let second = 100; second <= 130; second++) {
      clock.now = second * 1_000;
      misses.remember('k', stamp('f99'));
    }
    expect(misses.oldest('k')).toEqual(stamp('f99'));
  });

  it('when full, forgets the key that missed longest ago, and then trusts no missing note for 30 s', () => {
    const { clock, misses } = recentMisses();
    for (let key = 0; key <= 10_000; key++) misses.remember(`k${key}`, stamp('f'));
    expect(misses.oldest('k10000')).toEqual(stamp('f'));
    expect(misses.oldest('k0')).toBeNull();
    expect(misses.oldest('never seen')).toBeNull();
    clock.now = 30_001;
    expect(misses.oldest('never seen')).toBeUndefined();
  });

  it('drops expired keys first; while that suffices, the set of an unknown key is not skipped', () => {
    const { clock, misses } = recentMisses();
    for (let key = 0; key < 10_000; key++) misses.remember(`k${key}`, stamp('f'));
    clock.now = 3_600_000;
    misses.remember('late', stamp('f'));
    expect(misses.oldest('late')).toEqual(stamp('f'));
    expect(misses.oldest('never seen')).toBeUndefined();
    // The old ones are gone for good: there is room for as many again.
    for (let key = 1; key < 10_000; key++) misses.remember(`n${key}`, stamp('f'));
    expect(misses.oldest('late')).toEqual(stamp('f'));
  });
});
