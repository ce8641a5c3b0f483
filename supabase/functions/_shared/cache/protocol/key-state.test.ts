import { describe, expect, it } from 'vitest';
import { type VersionStamp, writeEnvelope } from './entry.ts';
import { EPOCH_KEY, HEARTBEAT_KEY } from './epoch.ts';
import { judge, leaseKey, mgetFor, planOfEntry } from './key-state.ts';

const KEY = 'quota:acme:openai:gpt-5';
const NOW = 1_793_527_200_000;
const STAMP = { fences: ['t', 'e', 'epoch'], epoch: 'epoch', loadedAt: NOW - 1_000 };

/** Everything as it is after a load with a living worker, but for what a test changes. */
function redis(
  changes: Record<string, string | null> = {},
  stamp: VersionStamp = STAMP,
  staleAt: number | null = null,
) {
  const values: Record<string, string | null> = {
    [KEY]: writeEnvelope(stamp, { left: 5 }, staleAt),
    'fence:quota': 't',
    'fence:quota:acme': 'e',
    [EPOCH_KEY]: 'epoch',
    [HEARTBEAT_KEY]: 'epoch',
    ...changes,
  };
  return values;
}

/** As a worker judges that knows no key types: the entry first, then all that it stands behind. */
function judged(values: Record<string, string | null>, degradedMs: number | null = null) {
  const { names, statesFrom } = mgetFor([planOfEntry(KEY, values[KEY] ?? null)]);
  const [state] = statesFrom(names.map((name) => values[name] ?? null));
  if (state === undefined) throw new Error('no state');
  const judgement = judge(state, degradedMs, NOW);
  return judgement.hit ? ['hit', judgement.staleFor] : [judgement.reason, judgement.fence];
}

describe('judge', () => {
  it('takes an entry whose fences and epoch all stand', () => {
    expect(judged(redis())).toEqual(['hit', null]);
    expect(judged(redis({}, STAMP, NOW + 1))).toEqual(['hit', null]);
    expect(judged(redis({}, STAMP, NOW - 250))).toEqual(['hit', 250]);
  });

  it('says why an entry is none', () => {
    expect(judged(redis({ [KEY]: null }))).toEqual(['absent', null]);
    expect(judged(redis({ [KEY]: '{"v":7}' }))).toEqual(['unreadable', null]);
    expect(judged(redis({ 'fence:quota': null }))).toEqual(['fence-gone', 'fence:quota']);
    expect(judged(redis({ 'fence:quota:acme': 'new' }))).toEqual(['fence-replaced', 'fence:quota:acme']);
    expect(judged(redis({ [EPOCH_KEY]: null, [HEARTBEAT_KEY]: null }))).toEqual(['epoch-over', null]);
    expect(judged(redis({ [EPOCH_KEY]: 'new', [HEARTBEAT_KEY]: 'new' }))).toEqual(['epoch-over', null]);
    expect(judged(redis({}, { ...STAMP, fences: [] }))).toEqual(['other-fences', null]);
  });

  it('goes by the age while no worker vouches for the epoch', () => {
    for (const heartbeat of [null, 'another']) {
      const alone = redis({ [HEARTBEAT_KEY]: heartbeat });
      expect(judged(alone)).toEqual(['hit', null]);
      expect(judged(alone, 999)).toEqual(['too-old-without-worker', null]);
      expect(judged(alone, 0)).toEqual(['too-old-without-worker', null]);
    }
    const never = { [HEARTBEAT_KEY]: null, [KEY]: writeEnvelope(STAMP, 1, null, 0) };
    expect(judged(redis(never))).toEqual(['too-old-without-worker', null]);
    const early = { ...STAMP, loadedAt: NOW + 5_000 };
    expect(judged(redis({ [HEARTBEAT_KEY]: null }, early))).toEqual(['too-old-without-worker', null]);
    const unvouched = { ...STAMP, epoch: null };
    expect(judged(redis({}, unvouched))).toEqual(['loaded-without-worker', null]);
  });

  it('finds the fences of an entry in the entry', () => {
    const fencesOf = (key: string, fences: string[]) =>
      planOfEntry(key, writeEnvelope({ ...STAMP, fences }, 1, null)).fences;
    expect(fencesOf('cost:openai:gpt-5', ['t', 'g', 'e', 'epoch'])).toEqual([
      'fence:cost',
      'fence:cost:openai:*',
      'fence:cost:openai:gpt-5',
    ]);
    expect(fencesOf('flags', ['t', 'epoch'])).toEqual(['fence:flags']);
    expect(planOfEntry('flags', null).fences).toEqual(['fence:flags']);
    const dependent = writeEnvelope({ ...STAMP, fences: ['t', 'e', 'x', 'epoch'] }, 1, null, 0, [
      'fence:user',
    ]);
    expect(planOfEntry(KEY, dependent).fences).toEqual(['fence:quota', 'fence:quota:acme', 'fence:user']);
  });

  it('takes no entry with other dependencies than the caller names, even where all of its values stand', () => {
    const values: Record<string, string> = {
      [KEY]: writeEnvelope({ ...STAMP, fences: ['t', 'e', 'x', 'epoch'] }, 1, null, 30_000, ['fence:user']),
      'fence:quota': 't',
      'fence:quota:acme': 'e',
      'fence:user': 'x',
      'fence:other': 'x',
      [EPOCH_KEY]: 'epoch',
      [HEARTBEAT_KEY]: 'epoch',
    };
    const own = ['fence:quota', 'fence:quota:acme'];
    const verdictFor = (dependencies: string[]) => {
      const plan = {
        key: KEY,
        fences: [...own, ...dependencies],
        dependencies,
        expiring: [],
        type: undefined,
        dependencyTypes: [],
      };
      const { names, statesFrom } = mgetFor([plan]);
      const [state] = statesFrom(names.map((name) => values[name] ?? null));
      if (state === undefined) throw new Error('no state');
      const judgement = judge(state, null, NOW);
      return judgement.hit ? 'hit' : judgement.reason;
    };
    expect(verdictFor(['fence:user'])).toBe('hit');
    expect(verdictFor([])).toBe('other-fences');
    expect(verdictFor(['fence:other'])).toBe('other-fences');
  });

  it('names a lease after the key, its fences and the entry that was seen', () => {
    const plan = planOfEntry(KEY, null);
    const late = writeEnvelope(STAMP, 1, NOW - 1);
    const names = [
      leaseKey(plan, ['t', 'e', 'epoch'], null),
      leaseKey(plan, ['t', 'e', 'next'], null),
      leaseKey(plan, ['t', 'e', 'epoch'], 'of another format'),
      leaseKey(plan, ['t', 'e', 'epoch'], late),
      leaseKey(planOfEntry(`${KEY}:x`, null), ['t', 'e', 'epoch'], null),
    ];
    expect(new Set(names).size).toBe(5);
    for (const name of names)
      expect(name).toMatch(/^fencepost:lease:quota:acme:openai:gpt-5(:x)?:[0-9a-z]{1,11}$/);
    expect(leaseKey(plan, ['t', 'e', 'epoch'], null)).toBe(names[0]);
    // What an invalidated load stores changes no lease's name.
    expect(leaseKey(plan, ['t', 'e', 'next'], late)).toBe(names[1]);
  });
});
