/**
 * A key that one process reads 1 000 times a second: what it costs in commands and what a read takes, with and without
 * the first level in process, and how old the answers get while somebody else invalidates the key twice a second.
 *
 *     npx tsx bench/cache/hot-key.ts [seconds]
 *
 * Redis and the gateway run in this process too, so their work is in the times of those reads that ask them.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { startGateway } from '../../local/gateway/gateway.ts';
import { startRedis } from '../../local/parts/redis.ts';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { type CacheOptions, createCache } from '../../supabase/functions/_shared/cache.ts';

const SECONDS = Number(process.argv[2] ?? 10);
const PER_SECOND = 1_000;
const KEY = 'quota:org-1:openai:gpt-5';
const local = { ttl: 250, max: 1_000 };

const redis = await startRedis();
const gateway = await startGateway({ redisUrl: redis.url, token: 'bench-token' });
const settings = { url: gateway.url, token: gateway.token, timeout: 5_000 };
const writer = createCache(settings);

async function measure(name: string, options: CacheOptions): Promise<string> {
  await fetch(gateway.url, {
    method: 'POST',
    headers: { authorization: `Bearer ${gateway.token}` },
    body: JSON.stringify(['MSET', EPOCH_KEY, name, HEARTBEAT_KEY, name]),
  });
  const cache = createCache({ ...settings, ...options });
  let row = 0;
  /** When each version of the row was replaced and its invalidation acknowledged. */
  const replacedAt: number[] = [];
  const read = () => cache.getOrSet(KEY, async () => row);
  for (let round = 0; round < 300; round++) await read();
  const times: number[] = [];
  let oldest = 0;
  let invalidations = 0;
  const before = gateway.commandCount();
  const startedAt = performance.now();
  const reads: Promise<void>[] = [];
  for (let sent = 0; sent < SECONDS * PER_SECOND; ) {
    const due = Math.min(SECONDS * PER_SECOND, ((performance.now() - startedAt) / 1_000) * PER_SECOND);
    for (; sent < due; sent++) {
      const askedAt = performance.now();
      const answered = read().then((version) => {
        times.push(performance.now() - askedAt);
        oldest = Math.max(oldest, askedAt - (replacedAt[version] ?? askedAt));
      });
      reads.push(answered);
    }
    if (performance.now() - startedAt > (invalidations + 1) * 500) {
      invalidations++;
      const version = row++;
      void writer.del(KEY).then(() => {
        replacedAt[version] = performance.now();
      });
    }
    await pause(1);
  }
  await Promise.all(reads);
  const commands = gateway.commandCount() - before - 2 * invalidations;
  const sorted = times.toSorted((one, other) => one - other);
  const at = (share: number) => (sorted[Math.floor(sorted.length * share)] ?? Number.NaN).toFixed(3);
  return `| ${name} | ${(commands / SECONDS).toFixed(1)} | ${at(0.5)} | ${at(0.99)} | ${Math.round(oldest)} |`;
}

console.log(
  `| ${PER_SECOND} reads a second for ${SECONDS} s | commands a second | p50 ms | p99 ms | oldest answer ms |`,
);
console.log('|---|---|---|---|---|');
console.log(await measure('without a first level', {}));
console.log(await measure(`local: { ttl: ${local.ttl}, max: ${local.max} }`, { local }));
await gateway.stop();
await redis.stop();
process.exit(0);
