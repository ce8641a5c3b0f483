/**
 * The cache module: what applications import. Everything else in this folder stands behind it.
 *
 * What it promises: an answer is never older than the last acknowledged invalidation of its key, whatever order reads,
 * loads, writes, evictions and expiries happen in; while no worker is alive, never older than `degradedMaxAge` plus the
 * heartbeat's 90 s; and a Redis that is away, slow or broken costs a reader one timeout, never an exception.
 *
 * Rules 1 to 10 that make it so stand above the code that carries each: 1, 2, 7 lease.ts and loading.ts; 3 store.ts;
 * 4 invalidation.ts; 5, 10 snapshot.ts; 6 flights.ts; 8 miss-memory.ts; 9 is the worker's (`replicaLag`).
 *
 * @module
 */

import { createCore } from './cache/client/core.ts';
import { deleteKeys, deletePattern } from './cache/client/delete.ts';
import { resolve } from './cache/client/get-or-set.ts';
import { type LoadToken, PlainAccess } from './cache/client/get-set.ts';
import type { LoadContext, LoadMany } from './cache/client/loader.ts';
import { type CacheOptions, type GetOrSetOptions, planFor } from './cache/client/options.ts';
import type { CacheStatistics } from './cache/client/statistics.ts';
import { CacheError } from './cache/protocol/errors.ts';
import { checkPattern, type Plan } from './cache/protocol/fences.ts';
import { encodeSegment, keys } from './cache/protocol/keys.ts';
import type { Health } from './cache/redis/redis-access.ts';

export type { CacheOptions, GetOrSetOptions, Outcome, ReadEvent } from './cache/client/options.ts';
export type { CacheStatistics, TypeStatistics } from './cache/client/statistics.ts';
export { CacheError, type CacheErrorCode } from './cache/protocol/errors.ts';
export { TTL } from './cache/protocol/key-types.ts';
export { encodeSegment, keys } from './cache/protocol/keys.ts';
export type { Health, LoadContext, LoadToken };

/** A batch loader's answer: a key it leaves out is cached as absent. */
type Loaded<T> = ReadonlyMap<string, T> | Readonly<Record<string, T>>;

export interface Cache {
  /**
   * The cached value, or null: for a miss, for a cached null or absence, and while Redis is away; `lookup` tells them apart.
   * A miss makes the next `set` of this key safe for 30 s: what was loaded in between is not stored if it was invalidated.
   */
  get<T = unknown>(key: string): Promise<T | null>;

  /** As `get`, but says whether something was cached; a cached absence is a hit whose value is undefined. */
  lookup<T = unknown>(key: string): Promise<{ hit: true; value: T | null | undefined } | { hit: false }>;

  /** The cached values of many keys with one MGET. A key that is not in the map was a miss; a cached null is null in it. */
  getMany<T = unknown>(wanted: readonly string[]): Promise<Map<string, T | null>>;

  /** A token to take before loading what `set` is to store. */
  begin(key: string): Promise<LoadToken>;

  /**
   * Stores a value. With a token of `begin`, or after a `get` of this key that missed in this isolate within 30 s, a value
   * that was invalidated since then is not readable. With neither, the value is taken as true now: use that only for values
   * whose truth is the cache itself.
   * @param ttl seconds; default: the type's, else 300
   * @returns whether Redis has it; false when Redis is away, the value is too large, the token was taken or the `get` made
   * without Redis, or so many keys were missed within 30 s (10 000) that it is not known whether this one was
   * @throws CacheError UNSUPPORTED_VALUE, INVALID_KEY, INVALID_CONFIGURATION, TOKEN_MISMATCH: mistakes of the program
   */
  set(key: string, value: unknown, ttl?: number, token?: LoadToken): Promise<boolean>;

  /**
   * The cached value, or what `load` gives, which is then cached unless it was invalidated meanwhile. null and undefined are
   * values like any other (see `negativeTtl`).
   * @param load one call serves all callers of this isolate that may share it; its error is theirs, and is not cached
   * @param ttl seconds; default: the type's, else 300
   * A value that JSON would change (a Date, a Map, a Response) is given, but not cached; a warning and `onError` say so.
   * @throws what `load` throws; CacheError LOAD_TIMEOUT, INVALID_KEY, INVALID_CONFIGURATION, INVALID_LOAD for no function
   */
  getOrSet<T>(
    key: string,
    load: (context: LoadContext) => T | PromiseLike<T>,
    ttl?: number,
    options?: GetOrSetOptions,
  ): Promise<T>;

  /**
   * As getOrSet for many keys, of several types if need be: one MGET, and one call of the loader for all that are missing.
   * @returns a map with every key; undefined for those the loader left out
   * @throws as getOrSet; CacheError INVALID_LOAD when the loader gives neither a map nor a plain object with keys
   */
  getOrSetMany<T>(
    wanted: readonly string[],
    loadMany: (missing: readonly string[], context: LoadContext) => Loaded<T> | PromiseLike<Loaded<T>>,
    ttl?: number,
    options?: GetOrSetOptions,
  ): Promise<Map<string, T | undefined>>;

  /**
   * Makes keys unreadable, and whatever is being loaded for them: one command.
   * @returns how many Redis keys (entries and fences) went; null when Redis did not acknowledge: then nothing is promised
   */
  del(...wanted: string[]): Promise<number | null>;

  /**
   * Makes every key that a glob matches unreadable. `type:*` and `type:entity:*` are one DEL, whatever the number of keys,
   * and count the fences that went; `*` ends the epoch, which is everything of this cache in one command; any other glob
   * is swept in pages and counts the entries that went.
   * @returns that number; null when Redis did not acknowledge
   * @throws CacheError INVALID_KEY as `del` does: for '', and for what belongs to the machinery
   */
  delPattern(glob: string): Promise<number | null>;

  /** `del` of one session's state. */
  invalidateSession(id: string): Promise<number | null>;

  /** `delPattern` of all quota answers of one organisation: one command. */
  invalidateOrganizationQuotas(org: string): Promise<number | null>;

  /** What this isolate has counted since it started, by key type. */
  stats(): CacheStatistics;

  /** Asks Redis how it is, for health checks; two commands, also while the circuit is open. Never rejects. */
  ping(): Promise<Health>;
}

/**
 * A cache of its own, for tests and for applications with several databases; most use the functions of this module,
 * which are those of one cache configured from the environment.
 * @throws CacheError INVALID_CONFIGURATION for numbers that cannot work; never for a missing or malformed URL
 */
export function createCache(options: CacheOptions = {}): Cache {
  const core = createCore(options);
  const { access, statistics } = core;
  const plain = new PlainAccess(core);
  const readThrough = (plans: readonly Plan[], load: LoadMany, ttl?: number, call: GetOrSetOptions = {}) =>
    resolve(core, plans, { load, ttl, options: call });

  return {
    async get<T>(key: string) {
      return ((await plain.peek([planFor(key)])).get(key) ?? null) as T | null;
    },
    async lookup<T>(key: string) {
      const found = await plain.peek([planFor(key)]);
      return found.has(key) ? { hit: true, value: found.get(key) as T | null | undefined } : { hit: false };
    },
    async getMany<T>(wanted: readonly string[]) {
      const found = await plain.peek(distinctPlans(wanted));
      return new Map([...found].map(([key, value]) => [key, (value ?? null) as T | null]));
    },
    begin: async (key) => plain.begin(planFor(key)),
    set: async (key, value, ttl, token) => plain.set(key, value, ttl, token),
    async getOrSet<T>(
      key: string,
      load: (context: LoadContext) => T | PromiseLike<T>,
      ttl?: number,
      call?: GetOrSetOptions,
    ) {
      checkLoader(load);
      const loadOne: LoadMany = async (_, context) => new Map([[key, await load(context)]]);
      return (await readThrough([planFor(key)], loadOne, ttl, call)).get(key) as T;
    },
    async getOrSetMany<T>(
      wanted: readonly string[],
      loadMany: (missing: readonly string[], context: LoadContext) => Loaded<T> | PromiseLike<Loaded<T>>,
      ttl?: number,
      call?: GetOrSetOptions,
    ) {
      checkLoader(loadMany);
      const plans = distinctPlans(wanted);
      const answers = await readThrough(plans, async (...args) => loadMany(...args), ttl, call);
      return new Map(plans.map(({ key }) => [key, answers.get(key) as T | undefined]));
    },
    del: async (...wanted) => deleteKeys(access, wanted),
    delPattern: async (glob) => {
      checkPattern(glob);
      return deletePattern(access, glob);
    },
    invalidateSession: async (id) => deleteKeys(access, [keys.session(id)]),
    invalidateOrganizationQuotas: async (org) => deletePattern(access, `quota:${encodeSegment(org)}:*`),
    stats: () => statistics.snapshot(access.commands),
    ping: () => access.ping(),
  };
}

function checkLoader(load: unknown): void {
  if (typeof load === 'function') return;
  throw new CacheError(
    'INVALID_LOAD',
    `The loader is ${load === null ? 'null' : typeof load}; give a function.`,
  );
}

function distinctPlans(wanted: readonly string[]): Plan[] {
  return [...new Set(wanted)].map(planFor);
}

let fromEnvironment: Cache | undefined;

/** The cache that the functions below use, configured from the environment at its first use. */
export const defaultCache = (): Cache => (fromEnvironment ??= createCache());

export const get: Cache['get'] = (key) => defaultCache().get(key);
export const lookup: Cache['lookup'] = (key) => defaultCache().lookup(key);
export const getMany: Cache['getMany'] = (wanted) => defaultCache().getMany(wanted);
export const begin: Cache['begin'] = (key) => defaultCache().begin(key);
export const set: Cache['set'] = (...args) => defaultCache().set(...args);
export const getOrSet: Cache['getOrSet'] = (...args) => defaultCache().getOrSet(...args);
export const getOrSetMany: Cache['getOrSetMany'] = (...args) => defaultCache().getOrSetMany(...args);
export const del: Cache['del'] = (...args) => defaultCache().del(...args);
export const delPattern: Cache['delPattern'] = (glob) => defaultCache().delPattern(glob);
export const invalidateSession: Cache['invalidateSession'] = (id) => defaultCache().invalidateSession(id);
export const invalidateOrganizationQuotas: Cache['invalidateOrganizationQuotas'] = (org) =>
  defaultCache().invalidateOrganizationQuotas(org);
export const stats: Cache['stats'] = () => defaultCache().stats();
export const ping: Cache['ping'] = () => defaultCache().ping();
