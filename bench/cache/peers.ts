/**
 * The other caches, each behind the two operations that a late fill needs. They are installed in this folder only (`npm install
 * --prefix bench/cache`), so the repository's type check has no types of theirs; this file declares what it uses.
 */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

/** What the scenarios ask of a cache. */
export interface Peer {
  readonly name: string;
  getOrSet(key: string, load: () => Promise<string>): Promise<unknown>;
  invalidate(key: string): Promise<void>;
}

const require = createRequire(new URL('package.json', import.meta.url));

/** A peer's module, or a sentence that says how to install it. */
async function load<T>(name: string): Promise<T> {
  try {
    return (await import(pathToFileURL(require.resolve(name)).href)) as T;
  } catch (cause) {
    throw new Error(`${name} is not installed: run npm install --prefix bench/cache first.`, { cause });
  }
}

/** Name and version as they stand in bench/cache/package.json. */
function named(name: string): string {
  const { dependencies } = require('./package.json') as { dependencies: Record<string, string> };
  return `${name} ${dependencies[name]}`;
}

export async function allPeers(): Promise<Peer[]> {
  return Promise.all([bentocache(), cacheable(), cachified(), asyncCacheDedupe(), cacheManager()]);
}

async function bentocache(): Promise<Peer> {
  interface Bento {
    getOrSet(options: { key: string; factory: () => Promise<string>; ttl: string }): Promise<unknown>;
    delete(options: { key: string }): Promise<boolean>;
  }
  const { BentoCache, bentostore } = await load<{
    BentoCache: new (options: { default: string; stores: Record<string, unknown> }) => Bento;
    bentostore: () => { useL1Layer(driver: unknown): unknown };
  }>('bentocache');
  const { memoryDriver } = await load<{ memoryDriver: (options: object) => unknown }>(
    'bentocache/drivers/memory',
  );
  const bento = new BentoCache({ default: 'm', stores: { m: bentostore().useL1Layer(memoryDriver({})) } });
  return {
    name: named('bentocache'),
    getOrSet: (key, factory) => bento.getOrSet({ key, factory, ttl: '5m' }),
    invalidate: async (key) => void (await bento.delete({ key })),
  };
}

async function cacheable(): Promise<Peer> {
  const { Cacheable } = await load<{
    Cacheable: new () => {
      getOrSet(key: string, load: () => Promise<string>, options: { ttl: string }): Promise<unknown>;
      delete(key: string): Promise<boolean>;
    };
  }>('cacheable');
  const cache = new Cacheable();
  return {
    name: named('cacheable'),
    getOrSet: (key, factory) => cache.getOrSet(key, factory, { ttl: '5m' }),
    invalidate: async (key) => void (await cache.delete(key)),
  };
}

async function cachified(): Promise<Peer> {
  const module = await load<{
    cachified: (options: {
      key: string;
      cache: Map<string, unknown>;
      ttl: number;
      getFreshValue: () => Promise<string>;
    }) => Promise<unknown>;
  }>('@epic-web/cachified');
  const cache = new Map<string, unknown>();
  return {
    name: named('@epic-web/cachified'),
    getOrSet: (key, getFreshValue) => module.cachified({ key, cache, ttl: 300_000, getFreshValue }),
    invalidate: async (key) => void cache.delete(key),
  };
}

async function asyncCacheDedupe(): Promise<Peer> {
  interface Dedupe {
    define(
      name: string,
      options: { references: (_: unknown, key: string) => string[] },
      load: (key: string) => Promise<string>,
    ): void;
    invalidateAll(reference: string): Promise<void>;
    read(key: string): Promise<unknown>;
  }
  const { createCache } = await load<{
    createCache: (options: {
      ttl: number;
      storage: { type: string; options: { invalidation: boolean } };
    }) => Dedupe;
  }>('async-cache-dedupe');
  const loaders = new Map<string, () => Promise<string>>();
  const cache = createCache({ ttl: 300, storage: { type: 'memory', options: { invalidation: true } } });
  cache.define('read', { references: (_, key) => [key] }, async (key) => (await loaders.get(key)?.()) ?? '');
  return {
    name: named('async-cache-dedupe'),
    getOrSet: (key, factory) => {
      loaders.set(key, factory);
      return cache.read(key);
    },
    invalidate: (key) => cache.invalidateAll(key),
  };
}

async function cacheManager(): Promise<Peer> {
  const { createCache } = await load<{
    createCache: () => {
      wrap(key: string, load: () => Promise<string>, ttl: number): Promise<unknown>;
      del(key: string): Promise<boolean>;
    };
  }>('cache-manager');
  const cache = createCache();
  return {
    name: named('cache-manager'),
    getOrSet: (key, factory) => cache.wrap(key, factory, 300_000),
    invalidate: async (key) => void (await cache.del(key)),
  };
}
