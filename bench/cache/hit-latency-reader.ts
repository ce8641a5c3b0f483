/**
 * The measuring process of hit-latency.ts. Four ways to read one value take turns, one call each, so that other load on the
 * machine affects all of them. Arguments: the gateway's URL and token.
 *
 * bentocache 1.6 has no driver for Upstash; it is measured with its own getOrSet over a second-level driver of a few lines on
 * the same client with the same settings.
 */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { Redis } from '@upstash/redis';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { createCache } from '../../supabase/functions/_shared/cache.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 4_000);
const KEY = 'quota:org-1:openai:gpt-5';
const VALUE = { limit: 1_000_000, used: 123_456, period: 'month', resets_at: '2026-12-01T00:00:00.000Z' };

const [url = '', token = ''] = process.argv.slice(2);

const settings = {
  url,
  token,
  retry: { retries: 0 },
  automaticDeserialization: false,
  responseEncoding: false as const,
  enableAutoPipelining: false,
  enableTelemetry: false,
};
const redis = new Redis(settings);
const defaults = new Redis({ url, token });
await redis.mset({ [EPOCH_KEY]: 'epoch', [HEARTBEAT_KEY]: 'epoch' });
await redis.set('bare', JSON.stringify(VALUE));
const cache = createCache({ url, token, timeout: 5_000 });
const bento = await bentocache();

const contestants: readonly (readonly [string, () => Promise<unknown>])[] = [
  ['bare GET and JSON.parse', async () => JSON.parse((await redis.get<string>('bare')) ?? 'null')],
  ['bare GET, client defaults', () => defaults.get('bare')],
  ['Fencepost getOrSet, hit', () => cache.getOrSet(KEY, async () => VALUE)],
  ['bentocache getOrSet, hit', () => bento.getOrSet({ key: KEY, factory: async () => VALUE, ttl: '1h' })],
];

for (let round = 0; round < 300; round++) for (const [, read] of contestants) await read();
const times = contestants.map(() => new Float64Array(ROUNDS));
for (let round = 0; round < ROUNDS; round++) {
  for (let turn = 0; turn < contestants.length; turn++) {
    // Each is first equally often.
    const index = (turn + round) % contestants.length;
    const startedAt = performance.now();
    await contestants[index]?.[1]();
    const sample = times[index];
    if (sample !== undefined) sample[round] = performance.now() - startedAt;
  }
}

const sorted = times.map((sample) => sample.toSorted());
const at = (index: number, share: number): number =>
  sorted[index]?.[Math.floor(ROUNDS * share)] ?? Number.NaN;
console.log(`| ${ROUNDS} rounds | p50 ms | p99 ms | p50 to bare GET |`);
console.log('|---|---|---|---|');
contestants.forEach(([name], index) => {
  const row = [
    at(index, 0.5).toFixed(3),
    at(index, 0.99).toFixed(3),
    (at(index, 0.5) / at(0, 0.5)).toFixed(2),
  ];
  console.log(`| ${name} | ${row.join(' | ')} |`);
});
const { hits = 0, misses = 0 } = cache.stats().types.quota ?? {};
console.log(`Fencepost: ${hits} hits, ${misses} misses, ${cache.stats().commands} commands.`);
process.exit(0);

/** bentocache with a second-level driver over @upstash/redis. */
async function bentocache(): Promise<{ getOrSet(options: object): Promise<unknown> }> {
  // The built file lies in bench/cache/node_modules.
  const require = createRequire(import.meta.url);
  const { BentoCache, bentostore } = (await import(pathToFileURL(require.resolve('bentocache')).href)) as {
    BentoCache: new (options: object) => { getOrSet(options: object): Promise<unknown> };
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
