import { describe, expect, it } from 'vitest';
import { systemRuntime } from '../redis/runtime.ts';
import { RecentMisses } from './recent-misses.ts';

const stamp = (fence: string, epoch: string | null = 'e1') => ({ fences: [fence], epoch, loadedAt: 1 });

function recentMisses() {
  const world = { now: 0 };
  return { world, memory: new RecentMisses({ ...systemRuntime, monotonic: () => world.now }) };
}

describe('recent misses', () => {
  it('gives the oldest stamp of the last 30 s, however often it is asked', () => {
    const { world, memory } = recentMisses();
    expect(memory.oldest('k')).toBeUndefined();
    memory.remember('k', stamp('f1'));
    world.now = 10_000;
    memory.remember('k', stamp('f2'));
    expect([memory.oldest('k'), memory.oldest('k')]).toEqual([stamp('f1'), stamp('f1')]);
    world.now = 30_001;
    expect(memory.oldest('k')).toEqual(stamp('f2'));
    world.now = 40_001;
    expect(memory.oldest('k')).toBeUndefined();
  });

  it('keeps a stamp for 30 s after the last miss that saw it', () => {
    const { world, memory } = recentMisses();
    memory.remember('k', stamp('f1'));
    world.now = 20_000;
    memory.remember('k', stamp('f1'));
    memory.remember('k', stamp('f1', 'e2'));
    world.now = 50_000;
    expect(memory.oldest('k')).toEqual(stamp('f1'));
    world.now = 50_001;
    expect(memory.oldest('k')).toBeUndefined();
  });

  it('forbids the set after a get that could not confirm its fences', () => {
    const { memory } = recentMisses();
    memory.remember('k', null);
    memory.remember('k', stamp('f1'));
    expect(memory.oldest('k')).toBeNull();
  });

  it('keeps eight stamps of a key: the oldest stands for those that had to go, and recovers once they are past', () => {
    const { world, memory } = recentMisses();
    // Every get of this key misses under another fence, since something deletes it all the time.
    for (let second = 0; second < 100; second++) {
      world.now = second * 1_000;
      memory.remember('k', stamp(`f${second}`));
    }
    expect(memory.oldest('k')).toEqual(stamp('f0'));
    expect(memory.remembered('k')).toBe(8);
    // Then it stops, and the last fence stands: 30 s later a set is stamped with it.
    for (let second = 100; second <= 130; second++) {
      world.now = second * 1_000;
      memory.remember('k', stamp('f99'));
    }
    expect(memory.oldest('k')).toEqual(stamp('f99'));
  });

  it('when full, forgets the key that missed longest ago, and then trusts no missing memory for 30 s', () => {
    const { world, memory } = recentMisses();
    for (let key = 0; key <= 10_000; key++) memory.remember(`k${key}`, stamp('f'));
    expect(memory.oldest('k10000')).toEqual(stamp('f'));
    expect(memory.oldest('k0')).toBeNull();
    expect(memory.oldest('never seen')).toBeNull();
    world.now = 30_001;
    expect(memory.oldest('never seen')).toBeUndefined();
  });

  it('drops what is over before anything else, and then still trusts itself', () => {
    const { world, memory } = recentMisses();
    for (let key = 0; key < 10_000; key++) memory.remember(`k${key}`, stamp('f'));
    world.now = 3_600_000;
    memory.remember('late', stamp('f'));
    expect(memory.oldest('late')).toEqual(stamp('f'));
    expect(memory.oldest('never seen')).toBeUndefined();
    // The old ones are gone for good: there is room for as many again.
    for (let key = 1; key < 10_000; key++) memory.remember(`n${key}`, stamp('f'));
    expect(memory.oldest('late')).toEqual(stamp('f'));
  });
});
