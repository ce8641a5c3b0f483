/**
 * What a stream of reads is billed at a given share of hits, counted at the gateway: GET and SET, bentocache over
 * Upstash, and this cache.
 *
 *     npm install --prefix bench/cache && npx tsx bench/cache/bill.ts
 *
 * 1 000 reads of the answers of 100 organisations, in one order for all. What misses is either an answer that was never
 * asked for, of an organisation that is known, or one that a write has just deleted. That deletion is one DEL, and
 * counted; this cache's is the worker's.
 */
import { Redis } from '@upstash/redis';
import { startGateway } from '../../local/gateway/gateway.ts';
import { startRedis } from '../../local/parts/redis.ts';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { deletionsFor } from '../../supabase/functions/_shared/cache/protocol/fences.ts';
import { createCache } from '../../supabase/functions/_shared/cache.ts';
import { randomOf } from '../functions/simulation.ts';
import { bentocacheOn } from './bentocache-upstash.ts';

const READS = 1_000;
const ORGANISATIONS = 100;
const VALUE = { limit: 1_000_000, used: 123_456 };

const server = await startRedis();
const gateway = await startGateway({ redisUrl: server.url, token: 'bench-token' });
const { url, token } = gateway;
const redis = new Redis({ url, token, automaticDeserialization: false, enableTelemetry: false });

interface Client {
  readonly name: string;
  read(key: string): Promise<unknown>;
  /** What follows a write that changes the answer. */
  invalidate(key: string): Promise<unknown>;
}

const load = async (): Promise<typeof VALUE> => VALUE;

/** All in an empty database. */
async function clients(): Promise<readonly Client[]> {
  const bento = await bentocacheOn(redis);
  const leased = createCache({ url, token });
  const unleased = createCache({ url, token, lease: 0 });
  const invalidate = (key: string): Promise<unknown> => redis.del(...deletionsFor(key).keys);
  return [
    {
      name: 'GET and SET',
      read: async (key) => {
        if ((await redis.get(key)) === null) await redis.set(key, JSON.stringify(VALUE), { px: 300_000 });
      },
      invalidate: (key) => redis.del(key),
    },
    {
      name: 'bentocache',
      read: (key) => bento.getOrSet({ key, factory: load, ttl: '5m' }),
      invalidate: (key) => bento.delete({ key }),
    },
    { name: 'Fencepost', read: (key) => leased.getOrSet(key, load), invalidate },
    { name: 'Fencepost, `lease: 0`', read: (key) => unleased.getOrSet(key, load), invalidate },
  ];
}

/** Commands of the stream, without those that filled the cache before it. */
async function bill(client: Client, hitRate: number, byWrites: boolean): Promise<number> {
  await redis.flushdb();
  await redis.mset({ [EPOCH_KEY]: 'epoch', [HEARTBEAT_KEY]: 'epoch' });
  const keyOf = (organisation: number, model: string): string => `quota:org-${organisation}:openai:${model}`;
  for (let organisation = 0; organisation < ORGANISATIONS; organisation++)
    await client.read(keyOf(organisation, 'usual'));
  const before = gateway.commandCount();
  const random = randomOf(1);
  for (let read = 0; read < READS; read++) {
    const organisation = Math.floor(random() * ORGANISATIONS);
    const misses = Math.floor((read + 1) * (1 - hitRate) + 1e-9) > Math.floor(read * (1 - hitRate) + 1e-9);
    const key = keyOf(organisation, misses && !byWrites ? `new-${read}` : 'usual');
    if (misses && byWrites) await client.invalidate(key);
    await client.read(key);
  }
  return gateway.commandCount() - before;
}

for (const byWrites of [false, true]) {
  console.log(
    `\n| ${byWrites ? 'misses after a write, its DEL included' : 'misses of what was never asked for'} | 50 % | 70 % | 90 % |`,
  );
  console.log('|---|---|---|---|');
  let floor: readonly number[] = [];
  for (const { name } of await clients()) {
    const counts: number[] = [];
    for (const hitRate of [0.5, 0.7, 0.9]) {
      // A new client for each stream: none remembers what another had in Redis.
      const client = (await clients()).find((one) => one.name === name);
      if (client !== undefined) counts.push(await bill(client, hitRate, byWrites));
    }
    if (floor.length === 0) floor = counts;
    const cells = counts.map((count, index) => `${count} (${(count / (floor[index] ?? 1)).toFixed(2)})`);
    console.log(`| ${name} | ${cells.join(' | ')} |`);
  }
}
await gateway.stop();
await server.stop();
process.exit(0);
