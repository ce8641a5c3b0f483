/**
 * What makes a plain `get`, load, `set` safe: the version stamps under which this isolate's recent `get`s missed.
 *
 *   Rule 8  `set` has no version stamp of its own: fences read at the time of the set may be younger than the load, and would make
 *           a stale value look fresh. So a `get` that misses remembers, per key and for 30 s, the fences it saw, and `set` uses the
 *           oldest ones remembered. A `set` that finds none takes the current fences; that is for values whose truth is the
 *           cache itself.
 *
 * Invariant: a value that was loaded after a missed `get` in this isolate, and is set within 30 s of it, carries a version stamp
 * taken no later than that `get`. Therefore:
 * - The oldest wins, because it may be the one that the value was loaded after.
 * - A set consumes nothing, because another get's set may follow.
 * - A `get` that could not confirm its fences is remembered as null, which forbids the set.
 * - Of more than eight stamps of a key the two oldest become one: the older stamp, for as long as the younger would have been
 *   kept. That can only make a set fail that might have been kept.
 * - Above 10 000 keys the oldest is dropped, and for 30 s a set that finds nothing is skipped.
 */
import type { VersionStamp } from '../protocol/entry.ts';
import { sameTexts } from '../protocol/key-state.ts';
import type { Runtime } from '../redis/runtime.ts';

const REMEMBERED_MS = 30_000;
const MOST_KEYS = 10_000;
const MOST_STAMPS = 8;

interface Remembered {
  readonly stamp: VersionStamp | null;
  lastAt: number;
}

export class RecentMisses {
  readonly #runtime: Runtime;
  readonly #misses = new Map<string, Remembered[]>();
  #droppedAt = Number.NEGATIVE_INFINITY;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** A get of this key missed under these fences; null when they could not be confirmed. */
  remember(key: string, stamp: VersionStamp | null): void {
    const now = this.#runtime.monotonic();
    const remembered = this.#current(key, now);
    const same = remembered.find((one) => sameStamp(one.stamp, stamp));
    if (same === undefined) remembered.push({ stamp, lastAt: now });
    else same.lastAt = now;
    if (remembered.length > MOST_STAMPS) {
      const [oldest] = remembered;
      const [second] = remembered.splice(1, 1);
      if (oldest !== undefined && second !== undefined) oldest.lastAt = second.lastAt;
    }
    // Re-inserting keeps the map in order of last use, so that the first key is the one to drop.
    this.#misses.delete(key);
    this.#misses.set(key, remembered);
    if (this.#misses.size > MOST_KEYS) this.#dropOldest(now);
  }

  /** The stamp for a set: a remembered one, null when the set must be skipped, undefined when nothing is remembered. */
  oldest(key: string): VersionStamp | null | undefined {
    const now = this.#runtime.monotonic();
    const remembered = this.#current(key, now);
    if (remembered.length === 0) this.#misses.delete(key);
    const [first] = remembered;
    if (first !== undefined) return first.stamp;
    return now - this.#droppedAt <= REMEMBERED_MS ? null : undefined;
  }

  /** How many stamps are held for a key. */
  remembered(key: string): number {
    return this.#misses.get(key)?.length ?? 0;
  }

  #current(key: string, now: number): Remembered[] {
    return (this.#misses.get(key) ?? []).filter(({ lastAt }) => now - lastAt <= REMEMBERED_MS);
  }

  /** Forgets the keys that missed longest ago: all that have expired, then as many others as are above the limit. */
  #dropOldest(now: number): void {
    for (const [key, remembered] of this.#misses) {
      const over = remembered.every(({ lastAt }) => now - lastAt > REMEMBERED_MS);
      if (!over && this.#misses.size <= MOST_KEYS) return;
      this.#misses.delete(key);
      if (!over) this.#droppedAt = now;
    }
  }
}

function sameStamp(one: VersionStamp | null, other: VersionStamp | null): boolean {
  if (one === null || other === null) return one === other;
  return one.epoch === other.epoch && sameTexts(one.fences, other.fences);
}
