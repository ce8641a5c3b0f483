/**
 * What makes a plain `get`, load, `set` safe, and `set` truthful: the version stamps under which this isolate's recent `get`s read a key,
 * and those of its recent tokens and loads.
 *
 *   Rule 8  `set` has no version stamp of its own: fences read at the time of the set may be younger than the load, and would make
 *           a stale value look fresh. So every `get` remembers, per key and for 30 s, the fences it saw, and `set` uses the
 *           oldest ones remembered. A `set` that finds none takes the current fences; that is for values whose truth is the
 *           cache itself.
 *
 * Invariant: a value that was loaded after a `get` in this isolate, and is set within 30 s of it, carries a version stamp taken no
 * later than that `get`. Therefore:
 * - Hits count like misses: a cached null may be what the program loads anew.
 * - The oldest wins, because it may be the one that the value was loaded after.
 * - A set consumes nothing, because another get's set may follow.
 * - A `get` that could not confirm its fences is remembered as null, which forbids the set.
 * - Of more than eight stamps of a key the two oldest become one: the older stamp, for as long as the younger would have been
 *   kept. That can only make a set fail that might have been kept.
 * - Above 10 000 keys the oldest is dropped, and for 30 s a set that finds nothing is skipped.
 *
 * A stamp is dead when this isolate deleted one of its fences, or a later read of any kind saw another value. What is stored under it
 * could not be read, and would overwrite what can. So it forbids the set for what is left of its time. A younger stamp does not
 * replace it: the value may have been loaded before that. A read says so only if it was sent when the stamp was known: the reply to an
 * earlier one may arrive later. Of a token that is not remembered any more, `set` asks Redis.
 */
import type { VersionStamp } from '../protocol/entry.ts';
import type { Plan } from '../protocol/fences.ts';
import { guardsOf, type KeyState, sameTexts } from '../protocol/key-state.ts';
import type { Runtime } from '../redis/runtime.ts';

const REMEMBERED_MS = 30_000;
const MOST_KEYS = 10_000;
const MOST_STAMPS = 8;

interface Remembered {
  readonly plan: Plan;
  readonly stamp: VersionStamp | null;
  lastAt: number;
  /** When it became known, in the order of events here. */
  readonly knownSince: number;
  dead: boolean;
}

type Memory = Map<string, Remembered[]>;

/** A `get` that waits for its reply, and what this isolate deletes meanwhile: the reply may be older. */
export interface ReadInProgress {
  readonly deleted: Set<string>;
  end(): void;
}

/** Nothing can have been deleted meanwhile. */
const AT_ONCE = { deleted: new Set<string>() };

export class RecentReads {
  readonly #runtime: Runtime;
  readonly #reads: Memory = new Map();
  readonly #tokens: Memory = new Map();
  readonly #inProgress = new Set<Set<string>>();
  #droppedAt = Number.NEGATIVE_INFINITY;
  #moments = 0;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** A moment in the order of events here: a read is about to be sent. */
  moment(): number {
    return ++this.#moments;
  }

  /** A get or a begin is about to ask Redis. */
  begin(): ReadInProgress {
    const deleted = new Set<string>();
    this.#inProgress.add(deleted);
    return { deleted, end: () => this.#inProgress.delete(deleted) };
  }

  /** A get of this key saw these fences, or made them; null when they could not be confirmed. */
  remember(plan: Plan, stamp: VersionStamp | null, reading: Pick<ReadInProgress, 'deleted'>): void {
    const now = this.#runtime.monotonic();
    const remembered = this.#add(this.#reads, plan, stamp, reading, now);
    if (remembered.length > MOST_STAMPS) {
      const [oldest] = remembered;
      const [second] = remembered.splice(1, 1);
      if (oldest !== undefined && second !== undefined) oldest.lastAt = second.lastAt;
    }
    if (this.#reads.size > MOST_KEYS && this.#dropOldest(this.#reads, now)) this.#droppedAt = now;
  }

  /** A token of this key was given out that holds this stamp, or a load begins under it. */
  rememberToken(plan: Plan, stamp: VersionStamp, reading: Pick<ReadInProgress, 'deleted'> = AT_ONCE): void {
    const now = this.#runtime.monotonic();
    const remembered = this.#add(this.#tokens, plan, stamp, reading, now);
    if (remembered.length > MOST_STAMPS) remembered.shift();
    if (this.#tokens.size > MOST_KEYS) this.#dropOldest(this.#tokens, now);
  }

  /** The stamp of a token, undefined when Redis has to be asked whether it is dead. */
  ofToken(key: string, stamp: VersionStamp): VersionStamp | 'dead' | undefined {
    const found = this.#current(this.#tokens, key, this.#runtime.monotonic()).find((one) =>
      sameStamp(one.stamp, stamp),
    );
    return found?.dead === true ? 'dead' : found && stamp;
  }

  #add(
    memory: Memory,
    plan: Plan,
    stamp: VersionStamp | null,
    { deleted }: Pick<ReadInProgress, 'deleted'>,
    now: number,
  ): Remembered[] {
    const { key } = plan;
    const remembered = this.#current(memory, key, now);
    const dead = guardsOf(plan).some((name) => deleted.has(name));
    const same = remembered.find((one) => sameStamp(one.stamp, stamp));
    if (same === undefined) remembered.push({ plan, stamp, lastAt: now, knownSince: this.moment(), dead });
    else {
      same.lastAt = now;
      same.dead ||= dead;
    }
    // Re-inserting keeps the map in order of last use, so that the first key is the one to drop.
    memory.delete(key);
    memory.set(key, remembered);
    return remembered;
  }

  /**
   * The stamp for a set: a remembered one; null when that was not confirmed, 'forgotten' when it may have been dropped, undefined when
   * there is none.
   */
  oldest(key: string): VersionStamp | 'dead' | 'forgotten' | null | undefined {
    const now = this.#runtime.monotonic();
    const remembered = this.#current(this.#reads, key, now);
    if (remembered.length === 0) this.#reads.delete(key);
    const [first] = remembered;
    if (first !== undefined) return first.dead ? 'dead' : first.stamp;
    return now - this.#droppedAt <= REMEMBERED_MS ? 'forgotten' : undefined;
  }

  /** How many stamps are held for a key. */
  remembered(key: string): number {
    return this.#reads.get(key)?.length ?? 0;
  }

  /** What a read of any kind showed. @param sentAt the moment before it was sent */
  notice(states: readonly KeyState[], sentAt: number): void {
    if (this.#reads.size === 0 && this.#tokens.size === 0) return;
    for (const state of states) {
      for (const memory of [this.#reads, this.#tokens]) {
        for (const one of memory.get(state.plan.key) ?? []) {
          if (sentAt >= one.knownSince) one.dead ||= isContradicted(one, state);
        }
      }
    }
  }

  /** This isolate deletes these names: called before the request is sent and again when it is answered. */
  deleted(names: Iterable<string>): void {
    if (this.#reads.size === 0 && this.#tokens.size === 0 && this.#inProgress.size === 0) return;
    const gone = new Set(names);
    for (const deleted of this.#inProgress) for (const name of gone) deleted.add(name);
    for (const memory of [this.#reads, this.#tokens]) {
      for (const remembered of memory.values()) {
        for (const one of remembered) one.dead ||= guardsOf(one.plan).some((name) => gone.has(name));
      }
    }
  }

  #current(memory: Memory, key: string, now: number): Remembered[] {
    return (memory.get(key) ?? []).filter(({ lastAt }) => now - lastAt <= REMEMBERED_MS);
  }

  /**
   * Forgets the keys that were read longest ago: all that have expired, then as many others as are above the limit.
   * @returns whether some had not expired
   */
  #dropOldest(memory: Memory, now: number): boolean {
    let forgot = false;
    for (const [key, remembered] of memory) {
      const over = remembered.every(({ lastAt }) => now - lastAt > REMEMBERED_MS);
      if (!over && memory.size <= MOST_KEYS) break;
      memory.delete(key);
      forgot ||= !over;
    }
    return forgot;
  }
}

/** Whether a read saw a fence of this stamp with another value, or none. What was not confirmed names no value. */
function isContradicted({ plan, stamp }: Remembered, { plan: read, fences }: KeyState): boolean {
  if (stamp === null) return false;
  const seen = guardsOf(read);
  return guardsOf(plan).some((name, index) => {
    // Most often both name the same fences.
    const place = seen[index] === name ? index : seen.indexOf(name);
    return place !== -1 && fences[place] !== stamp.fences[index];
  });
}

function sameStamp(one: VersionStamp | null, other: VersionStamp | null): boolean {
  if (one === null || other === null) return one === other;
  return one.epoch === other.epoch && sameTexts(one.fences, other.fences);
}
