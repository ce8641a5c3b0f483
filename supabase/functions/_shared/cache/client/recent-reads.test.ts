import { describe, expect, it } from 'vitest';
import type { Plan } from '../protocol/fences.ts';
import { systemRuntime } from '../redis/runtime.ts';
import { RecentReads } from './recent-reads.ts';

const quiet = { deleted: new Set<string>() };

/** A key of one fence, its own. */
const plan = (key: string): Plan => {
  const fences = [`fence:${key}`];
  return { key, fences, dependencies: [], expiring: fences, type: undefined, dependencyTypes: [] };
};

const stamp = (fence: string, epoch: string | null = 'e1') => ({ fences: [fence, 'e1'], epoch, loadedAt: 1 });

function recentReads() {
  const clock = { now: 0 };
  return { clock, reads: new RecentReads({ ...systemRuntime, monotonic: () => clock.now }) };
}

describe('recent reads', () => {
  it('gives the oldest stamp of the last 30 s, however often it is asked', () => {
    const { clock, reads } = recentReads();
    expect(reads.oldest('k')).toBeUndefined();
    reads.remember(plan('k'), stamp('f1'), quiet);
    clock.now = 10_000;
    reads.remember(plan('k'), stamp('f2'), quiet);
    expect([reads.oldest('k'), reads.oldest('k')]).toEqual([stamp('f1'), stamp('f1')]);
    clock.now = 30_001;
    expect(reads.oldest('k')).toEqual(stamp('f2'));
    clock.now = 40_001;
    expect(reads.oldest('k')).toBeUndefined();
  });

  it('keeps a stamp for 30 s after the last miss that saw it', () => {
    const { clock, reads } = recentReads();
    reads.remember(plan('k'), stamp('f1'), quiet);
    clock.now = 20_000;
    reads.remember(plan('k'), stamp('f1'), quiet);
    reads.remember(plan('k'), stamp('f1', 'e2'), quiet);
    clock.now = 50_000;
    expect(reads.oldest('k')).toEqual(stamp('f1'));
    clock.now = 50_001;
    expect(reads.oldest('k')).toBeUndefined();
  });

  it('forbids the set after a get that could not confirm its fences', () => {
    const { reads } = recentReads();
    reads.remember(plan('k'), null, quiet);
    reads.remember(plan('k'), stamp('f1'), quiet);
    // No read contradicts what was not known.
    reads.notice([state('k', 'f1', 'e1')], reads.moment());
    expect(reads.oldest('k')).toBeNull();
  });

  it('keeps eight stamps of a key: the oldest stands for those that had to go, and recovers once they are past', () => {
    const { clock, reads } = recentReads();
    // Every get of this key reads under another fence, since something deletes it all the time.
    for (let second = 0; second < 100; second++) {
      clock.now = second * 1_000;
      reads.remember(plan('k'), stamp(`f${second}`), quiet);
    }
    expect(reads.oldest('k')).toEqual(stamp('f0'));
    expect(reads.remembered('k')).toBe(8);
    // Then it stops, and the last fence stands: 30 s later a set is stamped with it.
    for (let second = 100; second <= 130; second++) {
      clock.now = second * 1_000;
      reads.remember(plan('k'), stamp('f99'), quiet);
    }
    expect(reads.oldest('k')).toEqual(stamp('f99'));
  });

  it('when full, forgets the key that missed longest ago, and then trusts no missing note for 30 s', () => {
    const { clock, reads } = recentReads();
    for (let key = 0; key <= 10_000; key++) reads.remember(plan(`k${key}`), stamp('f'), quiet);
    expect(reads.oldest('k10000')).toEqual(stamp('f'));
    expect(reads.oldest('k0')).toBe('forgotten');
    expect(reads.oldest('never seen')).toBe('forgotten');
    clock.now = 30_001;
    expect(reads.oldest('never seen')).toBeUndefined();
  });

  it('drops expired keys first; while that suffices, the set of an unknown key is not skipped', () => {
    const { clock, reads } = recentReads();
    for (let key = 0; key < 10_000; key++) reads.remember(plan(`k${key}`), stamp('f'), quiet);
    clock.now = 3_600_000;
    reads.remember(plan('late'), stamp('f'), quiet);
    expect(reads.oldest('late')).toEqual(stamp('f'));
    expect(reads.oldest('never seen')).toBeUndefined();
    // The old ones are gone for good: there is room for as many again.
    for (let key = 1; key < 10_000; key++) reads.remember(plan(`n${key}`), stamp('f'), quiet);
    expect(reads.oldest('late')).toEqual(stamp('f'));
  });

  const state = (key: string, ...fences: (string | null)[]) => {
    return { plan: plan(key), fences, epoch: null, heartbeat: null, entry: null, lease: null };
  };

  it('forbids the set under a stamp that is known to be dead, for what is left of its time', () => {
    for (const [die, name] of [
      [(reads: RecentReads) => reads.deleted(['fence:k']), 'deleted'],
      [(reads: RecentReads) => reads.deleted(['fencepost:epoch']), 'epoch deleted'],
      [(reads: RecentReads) => reads.notice([state('k', 'f2', 'e1')], reads.moment()), 'replaced'],
      [(reads: RecentReads) => reads.notice([state('k', null, 'e1')], reads.moment()), 'gone'],
      [(reads: RecentReads) => reads.notice([state('k', 'f1', 'e2')], reads.moment()), 'epoch over'],
    ] as const) {
      const { clock, reads } = recentReads();
      reads.remember(plan('k'), stamp('f1'), quiet);
      clock.now = 10_000;
      reads.notice([state('k', 'f1', 'e1'), state('other', 'f9', 'e9')], reads.moment());
      reads.deleted(['fence:other']);
      expect(reads.oldest('k'), name).toEqual(stamp('f1'));
      die(reads);
      expect(reads.oldest('k'), name).toBe('dead');
      reads.remember(plan('k'), stamp('f3'), quiet);
      expect(reads.oldest('k'), name).toBe('dead');
      clock.now = 30_001;
      expect(reads.oldest('k'), name).toEqual(stamp('f3'));
    }
  });

  it('compares fences by their names, because a read may name other dependencies, or in another order', () => {
    const fences = (...names: string[]): Plan => ({ ...plan('k'), fences: names, expiring: names });
    const own = { fences: ['k1', 'a1', 'b1', 'e1'], epoch: 'e1', loadedAt: 1 };
    for (const [names, values, expected] of [
      [['fence:k', 'fence:b', 'fence:a'], ['k1', 'b1', 'a1'], own],
      [['fence:k', 'fence:c'], ['k1', 'c9'], own],
      [['fence:k', 'fence:b', 'fence:a'], ['k1', 'b1', 'a2'], 'dead'],
      [['fence:c', 'fence:b'], ['c9', 'b2'], 'dead'],
    ] as const) {
      const { reads } = recentReads();
      reads.remember(fences('fence:k', 'fence:a', 'fence:b'), own, quiet);
      reads.notice([{ ...state('k', ...values, 'e1'), plan: fences(...names) }], reads.moment());
      expect(reads.oldest('k'), names.join()).toEqual(expected);
    }
  });

  it('takes no reply for news that was asked for before the stamp was known', () => {
    const { reads } = recentReads();
    const sentAt = reads.moment();
    reads.remember(plan('k'), stamp('f1'), quiet);
    reads.notice([state('k', null, 'e1')], sentAt);
    expect(reads.oldest('k')).toEqual(stamp('f1'));
  });

  it('knows of a token for 30 s whether it is dead, whatever a get saw; then Redis has to be asked', () => {
    const { clock, reads } = recentReads();
    reads.rememberToken(plan('k'), stamp('f1'), quiet);
    expect(reads.oldest('k')).toBeUndefined();
    expect(reads.ofToken('k', stamp('f1'))).toEqual(stamp('f1'));
    reads.notice([state('k', 'f2', 'e1')], reads.moment());
    reads.rememberToken(plan('k'), stamp('f2'), quiet);
    expect([reads.ofToken('k', stamp('f1')), reads.ofToken('k', stamp('f2'))]).toEqual(['dead', stamp('f2')]);
    reads.deleted(['fence:k']);
    expect(reads.ofToken('k', stamp('f2'))).toBe('dead');
    clock.now = 30_001;
    expect(reads.ofToken('k', stamp('f2'))).toBeUndefined();
    // What does not fit is asked about, too, and makes no set fail.
    for (let key = 0; key <= 10_000; key++) reads.rememberToken(plan(`k${key}`), stamp('f'), quiet);
    for (let fence = 0; fence <= 8; fence++) reads.rememberToken(plan('l'), stamp(`f${fence}`), quiet);
    expect([reads.ofToken('k0', stamp('f')), reads.ofToken('l', stamp('f0'))]).toEqual([
      undefined,
      undefined,
    ]);
    expect([reads.ofToken('l', stamp('f1')), reads.oldest('never seen')]).toEqual([stamp('f1'), undefined]);
  });

  it('takes the reply to a read that was under way during a deletion for one from before it', () => {
    const { reads } = recentReads();
    const reading = reads.begin();
    reads.deleted(['fence:k']);
    reads.remember(plan('k'), stamp('f1'), reading);
    expect(reads.oldest('k')).toBe('dead');
    reading.end();
    reads.deleted(['fence:l']);
    reads.remember(plan('l'), stamp('f1'), reading);
    expect(reads.oldest('l')).toEqual(stamp('f1'));
  });
});
