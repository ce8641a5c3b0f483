/**
 * Which fences a key stands behind, and which of them an invalidation deletes. Pure: nothing here talks to Redis.
 *
 * A key `s1:s2:…:sn` whose entity is its first d segments is readable only while all of these exist unchanged:
 *
 *   fence:s1                      its type
 *   fence:s1:…:sk:*   2 <= k < d  the groups between its type and its entity (none when d is 2, the usual case)
 *   fence:s1:…:sd                 its entity
 *
 * An invalidation deletes, whatever the reader's key types say about d:
 *
 *   exact target s1:…:sn          the entry, and fence:s1:…:sk for 2 <= k <= n   (fence:s1 when n is 1)
 *   s1:*                          fence:s1
 *   s1:…:sp:*         p >= 2      fence:s1:…:sk for 2 <= k <= p, and fence:s1:…:sp:*
 *   *                             everything: a new epoch
 *   any other glob                a sweep (sweep.ts)
 *
 * Promise: every target deletes at least one fence of every key that it names, for every d >= 2. So a worker needs no key types, and
 * a reader deployed with a deeper or a new type before the worker is still right. docs/protocol.md#fences has the proof.
 *
 * A target of more than 32 segments deletes its type's fence instead of one fence for each prefix. The prefixes together would
 * grow with the square of their number, and no key type has so many segments.
 *
 * A group's fence ends in `*`, so that an exact target does not delete it. Otherwise a write to one price would invalidate all
 * prices of the provider.
 */

import { CacheError } from './errors.ts';
import type { CompiledType } from './key-types.ts';

/** First segments that the cache keeps for itself: no key may start with one of them. */
export const RESERVED_FIRST_SEGMENTS: ReadonlySet<string> = new Set(['fence', 'fencepost']);

export const FENCE_PREFIX = 'fence:';

/** watch() and invalidate() accept no more (…_fencepost_declarations.sql, …_fencepost_wakeup.sql). */
export const MOST_SEGMENTS = 32;

/** One request names hundreds of keys, each up to four times, and has to stay below Upstash's 10 MB. */
const LONGEST_KEY = 4_096;

/** NUL, or half of a surrogate pair: with the flag u a whole pair is one character and no member of the class. */
export const UNREPRESENTABLE = /[\0\ud800-\udfff]/u;

/** The characters that have a meaning in a glob. */
const GLOB = /[*?[\]\\]/;

/** A key, the names of the fences that it stands behind, and what its type says about it. */
export interface Plan {
  readonly key: string;
  /** Its own in the order of their depth, then its dependencies', sorted. */
  readonly fences: readonly string[];
  /** Those of `fences` that are its dependencies' and not its own. */
  readonly dependencies: readonly string[];
  /** The fences that expire: all but a declared type's own, of which there are few. */
  readonly expiring: readonly string[];
  /** Undefined for a key of no declared type. */
  readonly type: CompiledType | undefined;
  /** The declared types that its dependencies may be of. */
  readonly dependencyTypes: readonly CompiledType[];
}

/** What must be done in Redis for one target; keys are logical, without the cache's prefix. */
export interface Deletions {
  /** Keys for one DEL. The reply to it is the acknowledgement. */
  readonly keys: readonly string[];
  /** The target is `*`: start a new epoch. */
  readonly newEpoch: boolean;
  /** A glob to sweep, in pages, or null. */
  readonly sweep: string | null;
}

/**
 * The names of the fences that a key stands behind.
 * @param entityDepth how many of its segments make its entity, as its type says; undefined for a key of no type: the whole key
 * @throws CacheError INVALID_KEY as checkKey does
 */
export function fencesOf(key: string, entityDepth?: number): string[] {
  checkKey(key);
  const segments = key.split(':');
  // An exact target of more segments deletes its type's fence anyway.
  const whole = segments.length > MOST_SEGMENTS ? 2 : segments.length;
  const depth = Math.min(entityDepth ?? whole, segments.length);
  const fences = [fenceKey(segments[0] ?? '')];
  for (let groupDepth = 2; groupDepth < depth; groupDepth++) {
    fences.push(fenceKey(`${segments.slice(0, groupDepth).join(':')}:*`));
  }
  if (depth > 1) fences.push(fenceKey(segments.slice(0, depth).join(':')));
  return fences;
}

/**
 * Refuses what is no key; every entry point calls it first. A key holds no glob characters. Key builders encode them, and a sweep
 * could not tell the fence of a key `flags:*` from the fence of the group `flags:*`.
 * @throws CacheError INVALID_KEY as checkPattern does, and for `*`, `?`, `[`, `]` and `\\`
 */
export function checkKey(key: string): void {
  const problem =
    problemOf(key) ?? (GLOB.test(key) ? 'holds none of * ? [ ] \\; encodeSegment() encodes them' : null);
  if (problem !== null) throw new CacheError('INVALID_KEY', `A cache key ${problem}.`);
}

/**
 * Refuses what is no pattern.
 * @throws CacheError INVALID_KEY for an empty pattern, for more than 4096 characters, for what no Postgres text can hold (NUL, half
 * of a surrogate pair), and for the cache's own names, which start with `fence:` or `fencepost:`
 */
export function checkPattern(glob: string): void {
  const problem = problemOf(glob);
  if (problem !== null) throw new CacheError('INVALID_KEY', `A pattern of cache keys ${problem}.`);
}

function problemOf(key: unknown): string | null {
  if (typeof key !== 'string') return `is a string, not ${key === null ? 'null' : typeof key}`;
  if (key === '') return 'is not empty';
  if (key.length > LONGEST_KEY) {
    return `has at most ${LONGEST_KEY} characters; encodeSegment() makes a hash of a long segment`;
  }
  if (UNREPRESENTABLE.test(key)) return 'holds neither NUL nor half of a surrogate pair';
  const end = key.indexOf(':');
  if (RESERVED_FIRST_SEGMENTS.has(end === -1 ? key : key.slice(0, end))) {
    return 'does not start with fence: or fencepost:';
  }
  return null;
}

/** The Redis key of a scope's fence. */
function fenceKey(scope: string): string {
  return FENCE_PREFIX + scope;
}

/** The scope of a fence's key, or null for a key that is no fence. */
export function scopeOfFence(key: string): string | null {
  return key.startsWith(FENCE_PREFIX) ? key.slice(FENCE_PREFIX.length) : null;
}

/**
 * What one target of the outbox, or one argument of `del` or `delPattern`, asks to delete.
 * A target with `?`, `[` or `\` but no `*` may be a key or a glob, and is treated as both.
 */
export function deletionsFor(target: string): Deletions {
  if (target === '*') return { keys: [], newEpoch: true, sweep: null };
  if (!/[*?[\\]/.test(target)) return { keys: deletionsForKey(target), newEpoch: false, sweep: null };
  if (!target.includes('*')) return { keys: deletionsForKey(target), newEpoch: false, sweep: target };

  const group = target.endsWith(':*') ? target.slice(0, -2) : '';
  if (group === '' || /[*?[\\]/.test(group)) return { keys: [], newEpoch: false, sweep: target };
  const segments = group.split(':');
  const keys =
    segments.length === 1 || segments.length > MOST_SEGMENTS
      ? prefixFences(segments)
      : [...prefixFences(segments), fenceKey(`${group}:*`)];
  return { keys, newEpoch: false, sweep: null };
}

/** What makes one exact key unreadable: its entry and the fences of all its prefixes from the second segment on. */
export function deletionsForKey(key: string): string[] {
  const segments = key.split(':');
  return [key, ...prefixFences(segments)];
}

/** The fences of all prefixes from the second segment on; the type's fence where there are none, or too many. */
function prefixFences(segments: readonly string[]): string[] {
  if (segments.length === 1 || segments.length > MOST_SEGMENTS) return [fenceKey(segments[0] ?? '')];
  return segments.slice(1).map((_, index) => fenceKey(segments.slice(0, index + 2).join(':')));
}
