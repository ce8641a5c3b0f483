/**
 * The time from a write to its confirmed DEL, beside the floor of the same run: one NOTIFY ping (from sending the NOTIFY to its
 * arrival at another connection) plus one REST DEL through the same client. The write's time starts when the UPDATE is sent
 * and ends when the worker has Redis's confirmation. Ping and write both include the commit's flush to disk.
 *
 *     npx tsx bench/worker/latency.ts [writes = 500] [keys in Redis = 0]
 */
import pg from 'pg';
import { createClient } from 'redis';
import { connectUpstash } from '../../worker/src/redis/upstash.ts';
import { now, quantile } from '../support/statistics.ts';
import { startBenchWorker, startStack, TOKEN } from '../support/worker.ts';

const WRITES = Number(process.argv[2] ?? 500);
const KEYS = Number(process.argv[3] ?? 0);
/** The pause between two writes, in which the worker falls asleep again. */
const PAUSE_MS = 15;

const stack = await startStack();
try {
  await fill(KEYS);
  const worker = await startBenchWorker(stack);
  const confirmed = new Map<string, (at: number) => void>();
  worker.on((message) => {
    if (message.kind === 'confirmed') confirmed.get(message.target)?.(Number(message.at) / 1e6);
  });

  const writer = await connected();
  const listener = await connected();
  const ringer = await connected();
  await listener.query('listen bench_ping');
  await writer.query(
    `insert into public.organizations (id) select 'bench-' || n from generate_series(1, 50) n on conflict do nothing`,
  );
  await writer.query(
    `insert into public.quotas (org_id, provider, model) select 'bench-' || n, 'openai', 'gpt-5-mini' from generate_series(1, 50) n`,
  );
  const cache = connectUpstash({
    upstashUrl: stack.gatewayUrl,
    upstashToken: TOKEN,
    cachePrefix: '',
    upstashTimeoutMs: 5_000,
  });

  const pings: number[] = [];
  const deletions: number[] = [];
  const floors: number[] = [];
  const writes: number[] = [];
  for (let round = 0; round < WRITES + 20; round++) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    const ping = await timed(async () => {
      const heard = new Promise((resolve) => listener.once('notification', resolve));
      await ringer.query('notify bench_ping');
      await heard;
    });
    const deletion = await timed(() => cache.del([`fence:bench:${round}`]));
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));

    const org = `bench-${(round % 50) + 1}`;
    const startedAt = now();
    const done = new Promise<number>((resolve) => confirmed.set(`quota:${org}:*`, resolve));
    await writer.query('update public.quotas set used = used + 1 where org_id = $1', [org]);
    const took = (await done) - startedAt;
    confirmed.clear();
    // The first rounds warm everything up.
    if (round < 20) continue;
    pings.push(ping);
    deletions.push(deletion);
    floors.push(ping + deletion);
    writes.push(took);
  }

  const rows = {
    'NOTIFY ping': pings,
    'REST DEL': deletions,
    'floor (sum)': floors,
    'write to confirmed DEL': writes,
  };
  console.log(`${WRITES} writes, ${KEYS} keys in Redis; milliseconds`);
  console.table(
    Object.fromEntries(
      Object.entries(rows).map(([name, values]) => {
        const at = (share: number) => quantile(values, share).toFixed(2);
        return [name, { p50: at(0.5), p90: at(0.9), p99: at(0.99) }];
      }),
    ),
  );
  const ratio = (share: number) => (quantile(writes, share) / quantile(floors, share)).toFixed(2);
  console.log(`p50 is ${ratio(0.5)} times the floor's, p99 ${ratio(0.99)} times.`);
  await Promise.all([writer.end(), listener.end(), ringer.end()]);
  await worker.stop();
} finally {
  await stack.stop();
}

async function connected(): Promise<pg.Client> {
  const client = new pg.Client(stack.databaseUrl);
  await client.connect();
  return client;
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedAt = now();
  await work();
  return now() - startedAt;
}

async function fill(count: number): Promise<void> {
  if (count === 0) return;
  const redis = createClient({ url: stack.redisUrl });
  await redis.connect();
  for (let from = 0; from < count; from += 10_000) {
    const pairs: [string, string][] = [];
    for (let index = from; index < Math.min(count, from + 10_000); index++)
      pairs.push([`filler:${index}:x`, 'v'.repeat(64)]);
    await redis.mSet(pairs);
  }
  await redis.close();
}
