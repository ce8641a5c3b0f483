/** What a cache can do for an application: the interface behind cache.ts. create-cache.ts makes one. */

import type { Time } from '../protocol/times.ts';
import type { Health } from '../redis/redis-access.ts';
import type { LoadToken } from './get-set.ts';
import type { LoadContext } from './loader.ts';
import type { CallArguments } from './options.ts';
import type { CacheStatistics } from './statistics.ts';
import type { WrapOptions } from './wrap.ts';

/** A batch loader's answer: a key that it leaves out is cached as absent. */
export type Loaded<T> = ReadonlyMap<string, T> | Readonly<Record<string, T>>;

export interface Cache {
  /**
   * The cached value, or null: for a miss, for a cached null or absence, and while Redis is away; `lookup` tells them apart.
   * It makes a `set` of this key safe for 30 s: what was loaded in between cannot be read if it was invalidated meanwhile.
   */
  get<T = unknown>(key: string): Promise<T | null>;

  /** As `get`, but says whether something was cached; a cached absence is a hit whose value is undefined. */
  lookup<T = unknown>(key: string): Promise<{ hit: true; value: T | null | undefined } | { hit: false }>;

  /** The cached values of many keys with one MGET. A key that is not in the map was a miss; a cached null is null in it. */
  getMany<T = unknown>(wanted: readonly string[]): Promise<Map<string, T | null>>;

  /** A token to take before loading what `set` is to store. */
  begin(key: string): Promise<LoadToken>;

  /**
   * Stores a value. With a token of `begin`, or after a `get` of this key in this isolate within 30 s, a value that was
   * invalidated since then is not readable. With neither, the value is taken as true now: use that only for values whose truth
   * is the cache itself. What stores nothing leaves no older value, unless the value may itself be older than an invalidation.
   * @param ttl seconds, or a text such as '5m'; default: the type's, else 300
   * @returns whether Redis has it; false when Redis is away, the value is too large, this isolate deleted the key or saw it
   * invalidated since the `get` or `begin` (a warning says so), either was made without Redis, or without a worker that is back by now or
   * longer ago than `degradedMaxAge`, or so many keys were read within 30 s (10 000) that it is not known whether this one was. True for
   * what another isolate or the worker has invalidated meanwhile: it is stored and unreadable
   * @throws CacheError UNSUPPORTED_VALUE, INVALID_KEY, INVALID_CONFIGURATION, TOKEN_MISMATCH: mistakes of the program
   */
  set(key: string, value: unknown, ttl?: Time, token?: LoadToken): Promise<boolean>;

  /**
   * The cached value, or what `load` gives, which is then cached unless it was invalidated meanwhile. null and undefined are
   * values like any other (see `negativeTtl`).
   * A value that JSON would change (a Date, a Map, a Response) is returned but not cached; a warning and `onError` say so.
   * @param load one call serves all callers of this isolate that may share it. Its error is theirs, and is not cached
   * @param given the ttl in seconds, or a text such as '5m' (default: the type's, else 300), and options; or the options in its place:
   * `{ ttl: '5m', fresh: true }`
   * @throws what `load` throws; CacheError LOAD_TIMEOUT, INVALID_KEY, INVALID_CONFIGURATION, INVALID_LOAD for no function
   */
  getOrSet<T>(
    key: string,
    load: (context: LoadContext) => T | PromiseLike<T>,
    ...given: CallArguments
  ): Promise<T>;

  /**
   * As getOrSet for many keys, of several types if need be: one MGET, and one call of the loader for all that are missing.
   * @returns a map with every key; undefined for those the loader left out
   * @throws as getOrSet; CacheError INVALID_LOAD when the loader gives neither a map nor a plain object with keys
   */
  getOrSetMany<T>(
    wanted: readonly string[],
    loadMany: (missing: readonly string[], context: LoadContext) => Loaded<T> | PromiseLike<Loaded<T>>,
    ...given: CallArguments
  ): Promise<Map<string, T | undefined>>;

  /**
   * A function of the same arguments whose answers are cached: each call is a getOrSet of the key that its arguments make. Every argument
   * that the answer depends on has to be part of the key.
   * @throws CacheError INVALID_LOAD for what is no function; INVALID_CONFIGURATION for a key that is neither a function nor a string
   */
  wrap<Arguments extends readonly unknown[], T>(
    load: (...given: Arguments) => T | PromiseLike<T>,
    options: WrapOptions<Arguments>,
  ): (...given: Arguments) => Promise<T>;

  /**
   * Makes keys unreadable, and what is being loaded for them too: two commands in one request. Their fences go as well, so the other
   * keys of the same entity become unreadable too, and whatever depends on them. A key of no declared type leaves its siblings, but ends
   * the keys of two or more segments that it begins with (`a:b` of `a:b:c`); one of a single segment, or of more than 32, ends all keys of
   * its first segment.
   * @returns how many of these keys were cached; null when Redis did not acknowledge: then nothing is promised
   */
  del(...wanted: string[]): Promise<number | null>;

  /**
   * Makes every key that a glob matches unreadable.
   * - `type:*` and `type:entity:*` are one DEL, whatever the number of keys.
   * - `*` ends the epoch: one command makes the whole cache unreadable.
   * - Any other glob is swept in pages.
   * @returns how many entries were deleted by a sweep, which also makes the other keys of their entities unreadable; undefined for
   * the others, which leave their entries to expire behind a fence that is gone; null when Redis did not acknowledge
   * @throws CacheError INVALID_KEY as `del` does: for '', and for the cache's own names
   */
  delPattern(glob: string): Promise<number | undefined | null>;

  /** What this isolate has counted since it started, by key type. */
  stats(): CacheStatistics;

  /** Asks Redis how it is, for health checks; three commands, also while the circuit is open. Never rejects. */
  ping(): Promise<Health>;
}
