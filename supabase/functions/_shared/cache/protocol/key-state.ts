/**
 * The state of a key, as one MGET shows it, and the one judgement whether its entry may answer.
 *
 * Promise of a hit: at the moment of the MGET every fence that the entry was loaded under still stood, and so did the epoch,
 * which is the fence of everything. So no invalidation was acknowledged between the load and this MGET.
 *
 *   Rule 5   One MGET reads the entry, all of its fences, the epoch and the heartbeat.
 *   Rule 10  An entry is a hit only under the epoch that it was loaded under.
 *
 * Why that is enough: docs/protocol.md#fences. Readers, `fencepost why` and `fencepost audit` all call `judge`.
 */

import { type Envelope, readEnvelope, type VersionStamp } from './entry.ts';
import { EPOCH_KEY, HEARTBEAT_KEY } from './epoch.ts';
import { fencesOf, type Plan } from './fences.ts';

/** Loaders' clocks may differ by so much; an entry from further in the future has no age to rely on. */
const CLOCK_TOLERANCE_MS = 2_000;

/** What one MGET said about one key. */
export interface KeyState {
  readonly plan: Plan;
  /** In the order of guardsOf(plan); null where a fence does not exist. */
  readonly fences: readonly (string | null)[];
  /** The epoch, if a living worker vouches for it; null: only the age of an entry bounds its staleness. */
  readonly epoch: string | null;
  /** The epoch that the heartbeat names, whether or not it is still the current one; null without a heartbeat. */
  readonly heartbeat: string | null;
  readonly entry: string | null;
  /** What the lease holds that was asked about, which every claim makes anew; null: it is free, or none was asked about. */
  readonly lease: string | null;
}

/**
 * The plan of a key, derived from its entry, for a caller that does not know the reader's key types. The number of fences in the
 * entry gives the entity, and the key gives their names. Read the entry, make the plan, then read everything that the plan names
 * with one MGET and judge that. The first read is no part of the judgement.
 * @param entry as it is stored; null or another format: the plan of a key of no type
 * @throws CacheError INVALID_KEY as checkKey does
 */
export function planOfEntry(key: string, entry: string | null): Plan {
  const envelope = entry === null ? null : readEnvelope(entry);
  const dependencies = envelope?.dependencies ?? [];
  // The last of an entry's fences is the epoch.
  const depth = envelope === null ? undefined : envelope.fences.length - 1 - dependencies.length;
  const fences = [...fencesOf(key, depth), ...dependencies];
  return { key, fences, dependencies, expiring: fences, type: undefined, dependencyTypes: [] };
}

/** The names of what guards a key: its fences and, last, the epoch. */
export function guardsOf({ fences }: Plan): string[] {
  return [...fences, EPOCH_KEY];
}

/**
 * The name of a lease: of the load of a key under these fences, in place of this entry. An invalidation gives the key another lease, so
 * that nobody waits for a load whose answer cannot be used. It starts with `fencepost:`, as no cached key does.
 *
 * An entry that was loaded under other values of the fences counts as none. It may land at any moment, being what an invalidated load
 * stores, and must not give a second reader another lease beside the load that is running by then.
 * @param fences of the key, in the order of guardsOf
 * @param entry the unusable entry that was seen, as it is stored
 */
export function leaseKey(plan: Plan, fences: readonly string[], entry: string | null): string {
  const seen = entry === null || isDead(plan, fences, entry) ? '' : entry;
  return `fencepost:lease:${plan.key}:${shortHash(`${fences.join(' ')} ${seen}`)}`;
}

/** Whether an entry's own fences are not those that stand, so that it is never a hit again. */
function isDead({ dependencies }: Plan, fences: readonly string[], entry: string): boolean {
  const envelope = readEnvelope(entry);
  if (envelope === null || !sameTexts(envelope.dependencies, dependencies)) return false;
  return envelope.fences.length === fences.length && !sameTexts(envelope.fences, fences);
}

/**
 * 53 bits in base 36 (cyrb53). Two loads whose names collide wait for each other for as long as a lease lives, no more: fences are
 * random, so nobody can choose their hash.
 */
export function shortHash(text: string): string {
  let high = 0xdeadbeef;
  let low = 0x41c6ce57;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    high = Math.imul(high ^ unit, 2_654_435_761);
    low = Math.imul(low ^ unit, 1_597_334_677);
  }
  high = Math.imul(high ^ (high >>> 16), 2_246_822_507) ^ Math.imul(low ^ (low >>> 13), 3_266_489_909);
  low = Math.imul(low ^ (low >>> 16), 2_246_822_507) ^ Math.imul(high ^ (high >>> 13), 3_266_489_909);
  return (4_294_967_296 * (2_097_151 & low) + (high >>> 0)).toString(36);
}

/**
 * What one MGET has to name for some keys, and how to read its reply. Every name occurs once.
 * @param leases the names of leases to look at too, one for each key
 */
export function mgetFor(
  plans: readonly Plan[],
  leases: readonly string[] = [],
): { names: string[]; statesFrom: (values: readonly (string | null)[]) => KeyState[] } {
  const places = new Map<string, number>();
  const place = (name: string): number => {
    const known = places.get(name);
    if (known !== undefined) return known;
    places.set(name, places.size);
    return places.size - 1;
  };
  const wanted = plans.map((plan, index) => {
    const lease = leases[index];
    return {
      plan,
      entry: place(plan.key),
      fences: guardsOf(plan).map(place),
      lease: lease === undefined ? null : place(lease),
    };
  });
  const epoch = place(EPOCH_KEY);
  const heartbeat = place(HEARTBEAT_KEY);
  return {
    names: [...places.keys()],
    statesFrom: (values) => {
      const at = (index: number): string | null => values[index] ?? null;
      return wanted.map(({ plan, entry, fences, lease }) => ({
        plan,
        fences: fences.map(at),
        epoch: at(heartbeat) === at(epoch) ? at(epoch) : null,
        heartbeat: at(heartbeat),
        entry: at(entry),
        lease: lease === null ? null : at(lease),
      }));
    },
  };
}

/** Whether all the fences exist; then they make the version stamp of a load that begins now. */
export function allExist(fences: readonly (string | null)[]): fences is readonly string[] {
  return fences.every((fence) => fence !== null);
}

/** An entry that may answer: it is fresh, or past its time but kept for a stale window. */
export interface Hit {
  readonly hit: true;
  readonly envelope: Envelope;
  /** Milliseconds past its time; null while fresh. Whether that is too late is the caller's decision. */
  readonly staleFor: number | null;
}

export type MissReason =
  /** Nothing is stored under the key. */
  | 'absent'
  /** What is stored was not written in this format. */
  | 'unreadable'
  /** It was stored under other fences: with other dependencies, or the key's type had another entity then. */
  | 'other-fences'
  /** A fence that it was stored under does not exist any more. */
  | 'fence-gone'
  /** A fence that it was stored under was deleted and made anew. */
  | 'fence-replaced'
  /** The epoch has ended or is missing: the whole cache was invalidated. */
  | 'epoch-over'
  /** A worker vouches for the epoch now, and none did when the entry was loaded. */
  | 'loaded-without-worker'
  /** No worker vouches for the epoch, and the entry is older than such answers may be. */
  | 'too-old-without-worker';

export interface Miss {
  readonly hit: false;
  readonly reason: MissReason;
  /** The name of the fence that is gone or was replaced; null for the other reasons. */
  readonly fence: string | null;
  /** Null when there is no entry that could be read. */
  readonly envelope: Envelope | null;
}

/**
 * Whether an entry may answer now, and if not, why not.
 * @param degradedMs how old an answer may be while no worker vouches for the epoch, in milliseconds; 0: there are no such answers.
 * null: as old as the call allowed that stored the entry, for a caller that serves no reader.
 */
export function judge(state: KeyState, degradedMs: number | null, now: number): Hit | Miss {
  const envelope = state.entry === null ? null : readEnvelope(state.entry);
  const miss = (reason: MissReason, fence: string | null = null): Miss => {
    return { hit: false, reason, fence, envelope };
  };
  if (envelope === null) return miss(state.entry === null ? 'absent' : 'unreadable');
  // As sets that are equal, never as subsets: an answer stands behind all that its loader was told it depends on.
  const same = sameTexts(envelope.dependencies, state.plan.dependencies);
  if (!same || envelope.fences.length !== state.fences.length) return miss('other-fences');
  for (const [index, found] of state.fences.entries()) {
    if (found !== null && found === envelope.fences[index]) continue;
    const fence = state.plan.fences[index];
    if (fence === undefined) return miss('epoch-over');
    return miss(found === null ? 'fence-gone' : 'fence-replaced', fence);
  }
  if (!isCurrent(envelope, state.epoch, degradedMs ?? envelope.degradedMs, now)) {
    return miss(state.epoch === null ? 'too-old-without-worker' : 'loaded-without-worker');
  }
  const late = envelope.staleAt === null ? -1 : now - envelope.staleAt;
  return { hit: true, envelope, staleFor: late < 0 ? null : late };
}

/** Whether a value with this version stamp, whose fences all exist unchanged, may be used now; loaded or still being loaded. */
export function isCurrent(
  stamp: VersionStamp,
  epoch: string | null,
  degradedMs: number,
  now: number,
): boolean {
  if (epoch !== null) return stamp.epoch === epoch;
  const age = now - stamp.loadedAt;
  return degradedMs > 0 && age >= -CLOCK_TOLERANCE_MS && age <= degradedMs;
}

export function sameTexts(one: readonly (string | null)[], other: readonly (string | null)[]): boolean {
  return one.length === other.length && one.every((text, index) => text === other[index]);
}
