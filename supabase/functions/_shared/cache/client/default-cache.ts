/** The functions of one cache at module level, which an application's cache.ts exports. */
import type { Cache } from './cache.ts';
import { wrapWith } from './wrap.ts';

export interface DefaultCache<Created extends Cache> extends Cache {
  /** The cache that the functions share. */
  defaultCache(): Created;
}

/** @param create called once, at the first use: importing the module reads no environment and opens no connection */
export function defaultCacheFrom<Created extends Cache>(create: () => Created): DefaultCache<Created> {
  let created: Created | undefined;
  const defaultCache = (): Created => (created ??= create());
  return {
    defaultCache,
    get: (key) => defaultCache().get(key),
    lookup: (key) => defaultCache().lookup(key),
    getMany: (wanted) => defaultCache().getMany(wanted),
    begin: (key) => defaultCache().begin(key),
    set: (...args) => defaultCache().set(...args),
    getOrSet: (...args) => defaultCache().getOrSet(...args),
    getOrSetMany: (...args) => defaultCache().getOrSetMany(...args),
    wrap: (load, options) => wrapWith((...args) => defaultCache().getOrSet(...args), load, options),
    del: (...args) => defaultCache().del(...args),
    delPattern: (glob) => defaultCache().delPattern(glob),
    stats: () => defaultCache().stats(),
    ping: () => defaultCache().ping(),
  };
}
