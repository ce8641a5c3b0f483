/**
 * The measuring process of hit-latency.ts. The ways to read take turns, one call each in random order, so that other
 * load on the machine affects all of them, and so does what the call before left in the processor's caches. Arguments:
 * the gateway's URL and token.
 */
import { Redis } from '@upstash/redis';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { createCache } from '../../supabase/functions/_shared/cache.ts';
import { bentocacheOn } from './bentocache-upstash.ts';

const ROUNDS = Number(process.env.ROUNDS ?? 4_000);
/** Until the code is compiled. */
const WARM_UP = 2_000;
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
const bento = await bentocacheOn(redis);

interface Contestant {
  readonly name: string;
  /** @param round names a key that nobody has read, for misses */
  readonly read: (round: string) => Promise<unknown>;
}

const load = async (): Promise<typeof VALUE> => VALUE;

async function bareMiss(key: string): Promise<unknown> {
  const found = await redis.get<string>(key);
  if (found !== null) return JSON.parse(found);
  await redis.set(key, JSON.stringify(VALUE), { px: 300_000 });
  return VALUE;
}

const hits: readonly Contestant[] = [
  {
    name: "bare GET and JSON.parse, the module's client settings",
    read: async () => JSON.parse((await redis.get<string>('bare')) ?? 'null'),
  },
  { name: "bare GET, the client's default settings", read: () => defaults.get('bare') },
  { name: 'Fencepost getOrSet, hit', read: () => cache.getOrSet(KEY, load) },
  {
    name: 'bentocache getOrSet, hit (no timeout, no fences)',
    read: () => bento.getOrSet({ key: KEY, factory: load, ttl: '1h' }),
  },
];
const misses: readonly Contestant[] = [
  { name: 'bare GET, then SET', read: (round) => bareMiss(`bare:${round}`) },
  {
    name: 'Fencepost getOrSet, miss while the fences stand',
    read: (round) => cache.getOrSet(`quota:org-1:openai:${round}`, load),
  },
  {
    name: 'the same without a lease',
    read: (round) => cache.getOrSet(`quota:org-1:google:${round}`, load, { lease: 0 }),
  },
  {
    name: 'Fencepost getOrSet, miss whose fence is missing',
    read: (round) => cache.getOrSet(`quota:org-${round}:openai:gpt-5`, load),
  },
  {
    name: 'bentocache getOrSet, miss',
    read: (round) => bento.getOrSet({ key: `bento:${round}`, factory: load, ttl: '5m' }),
  },
];

await measure(hits, 'to bare GET');
await measure(misses, 'to GET, then SET');
const { hits: found = 0, misses: loaded = 0 } = cache.stats().types.quota ?? {};
console.log(`Fencepost: ${found} hits, ${loaded} misses, ${cache.stats().commands} commands.`);
process.exit(0);

async function measure(contestants: readonly Contestant[], ratio: string): Promise<void> {
  const times = new Map(contestants.map(({ name }) => [name, [] as number[]]));
  for (let round = -WARM_UP; round < ROUNDS; round++) {
    const order = contestants.map((contestant) => ({ contestant, place: Math.random() }));
    for (const { contestant } of order.sort((one, other) => one.place - other.place)) {
      const startedAt = performance.now();
      await contestant.read(`r${round}`);
      if (round >= 0) times.get(contestant.name)?.push(performance.now() - startedAt);
    }
  }
  const sorted = [...times].map(([name, all]) => [name, all.sort((one, other) => one - other)] as const);
  const at = (all: readonly number[], share: number): number => all[Math.floor(ROUNDS * share)] ?? Number.NaN;
  const floor = at(sorted[0]?.[1] ?? [], 0.5);
  console.log(`| ${ROUNDS} rounds | p50 ms | p99 ms | p50 ${ratio} |\n|---|---|---|---|`);
  for (const [name, all] of sorted) {
    const median = at(all, 0.5);
    console.log(
      `| ${name} | ${median.toFixed(3)} | ${at(all, 0.99).toFixed(3)} | ${(median / floor).toFixed(2)} |`,
    );
  }
}
