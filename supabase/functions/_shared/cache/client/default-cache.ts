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
  const lazily = <Name extends keyof Cache>(name: Name): Cache[Name] =>
    ((...given: unknown[]) => Reflect.apply(defaultCache()[name], undefined, given)) as Cache[Name];
  const getOrSet = lazily('getOrSet');
  return {
    defaultCache,
    get: lazily('get'),
    lookup: lazily('lookup'),
    getMany: lazily('getMany'),
    begin: lazily('begin'),
    set: lazily('set'),
    getOrSet,
    getOrSetMany: lazily('getOrSetMany'),
    wrap: (...given) => wrapWith(getOrSet, ...given),
    del: lazily('del'),
    delPattern: lazily('delPattern'),
    stats: lazily('stats'),
    ping: lazily('ping'),
  };
}
