/** This application's cache, which its functions import: yours to edit. cache/client/cache.ts says what each function promises. */
import type { Cache } from '../cache/client/cache.ts';
import { createCache as createCacheOf } from '../cache/client/create-cache.ts';
import { defaultCacheFrom } from '../cache/client/default-cache.ts';
import type { CacheOptions } from '../cache/client/options.ts';
import { types } from './key-types.ts';

export type { Cache } from '../cache/client/cache.ts';
export type { CacheOptions, GetOrSetOptions, Outcome } from '../cache/client/options.ts';
export { CacheError, type CacheErrorCode } from '../cache/protocol/errors.ts';
export { encodeSegment } from '../cache/protocol/keys.ts';
export * from './key-types.ts';

/** A separate cache, for tests. The functions below share one, which the environment configures at its first use. */
export const createCache = (options: CacheOptions = {}): Cache => createCacheOf(options, types);

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
