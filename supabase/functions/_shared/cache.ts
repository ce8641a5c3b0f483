/**
 * The workbench's cache: what its functions import. It is createCache with the types of key-types.ts, and the two invalidations
 * that this application names. `fencepost init` gives an application starter/cache.ts instead. cache/client/cache.ts says what
 * each function promises.
 *
 * Promise: an answer is never older than the last acknowledged invalidation of its key, whatever order reads, loads, writes,
 * evictions and expiries happen in. While no worker is alive it is never older than `degradedMaxAge` plus the heartbeat's 90 s.
 * A Redis that is away, slow or broken costs a reader one timeout, never an exception. docs/protocol.md#fences has the proof.
 *
 * @module
 */
import type { Cache as ProductCache } from './cache/client/cache.ts';
import { createCache as createProductCache } from './cache/client/create-cache.ts';
import { defaultCacheFrom } from './cache/client/default-cache.ts';
import { refuseOptions } from './cache/client/option-rules.ts';
import type { CacheOptions } from './cache/client/options.ts';
import { encodeSegment } from './cache/protocol/keys.ts';
import { keys, types } from './key-types.ts';

export type { LoadToken } from './cache/client/get-set.ts';
export type { LoadContext } from './cache/client/loader.ts';
export type { CacheOptions, GetOrSetOptions, Outcome, ReadEvent } from './cache/client/options.ts';
export type { Serializer } from './cache/client/serializer.ts';
export type { CacheStatistics, TypeStatistics } from './cache/client/statistics.ts';
export type { WrapOptions } from './cache/client/wrap.ts';
export { CacheError, type CacheErrorCode } from './cache/protocol/errors.ts';
export type { KeyType, KeyTypes } from './cache/protocol/key-types.ts';
export { encodeSegment, keyBuilders } from './cache/protocol/keys.ts';
export type { Time } from './cache/protocol/times.ts';
export type { Health } from './cache/redis/redis-access.ts';
export { keys, TTL } from './key-types.ts';

export interface Cache extends ProductCache {
  /** `del` of one session's state. */
  invalidateSession(id: string): Promise<number | null>;
  /** `delPattern` of all quota answers of one organisation: one command. */
  invalidateOrganizationQuotas(org: string): Promise<number | undefined | null>;
}

/**
 * A separate cache, for tests and for applications with several databases. Most applications use the functions below: they all
 * share one cache, which the environment configures. `types` defaults to those of key-types.ts.
 * @throws CacheError INVALID_CONFIGURATION for options that cannot work; never for a missing or malformed URL
 */
export function createCache(options: CacheOptions = {}): Cache {
  const cache = createProductCache(options, types);
  return {
    ...cache,
    invalidateSession: async (id, ...more: unknown[]) => {
      refuseOptions('invalidateSession', more);
      return cache.del(keys.session(id));
    },
    invalidateOrganizationQuotas: async (org, ...more: unknown[]) => {
      refuseOptions('invalidateOrganizationQuotas', more);
      return cache.delPattern(`quota:${encodeSegment(org)}:*`);
    },
  };
}

export const {
  defaultCache,
  get,
  lookup,
  getMany,
  begin,
  set,
  getOrSet,
  getOrSetMany,
  wrap,
  del,
  delPattern,
  stats,
  ping,
} = defaultCacheFrom(() => createCache());
export const invalidateSession: Cache['invalidateSession'] = (...given) =>
  defaultCache().invalidateSession(...given);
export const invalidateOrganizationQuotas: Cache['invalidateOrganizationQuotas'] = (...given) =>
  defaultCache().invalidateOrganizationQuotas(...given);
