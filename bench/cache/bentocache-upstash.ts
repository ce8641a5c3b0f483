/**
 * bentocache over @upstash/redis. bentocache 1.6 has no driver for it, so it gets a second-level driver of a few lines.
 * It is installed in this folder only (`npm install --prefix bench/cache`).
 */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import type { Redis } from '@upstash/redis';

export interface Bento {
  getOrSet(options: {
    readonly key: string;
    readonly factory: () => Promise<unknown>;
    readonly ttl: string;
  }): Promise<unknown>;
  delete(options: { readonly key: string }): Promise<boolean>;
}

/** @param redis with automatic deserialisation off: bentocache serialises by itself */
export async function bentocacheOn(redis: Redis): Promise<Bento> {
  // A bundle of this file lies in bench/cache/node_modules.
  const require = createRequire(import.meta.url);
  const { BentoCache, bentostore } = (await import(pathToFileURL(require.resolve('bentocache')).href)) as {
    BentoCache: new (options: object) => Bento;
    bentostore: () => { useL2Layer(driver: object): unknown };
  };
  const driver = {
    type: 'l2',
    namespace: () => driver,
    get: async (key: string) => (await redis.get<string>(key)) ?? undefined,
    set: async (key: string, value: string, ttl?: number) => {
      await redis.set(key, value, ttl === undefined ? {} : { px: ttl });
      return true;
    },
    delete: async (key: string) => (await redis.del(key)) > 0,
    disconnect: async () => {},
  };
  const store = bentostore().useL2Layer({ options: {}, factory: () => driver });
  return new BentoCache({ default: 'upstash', stores: { upstash: store } });
}
