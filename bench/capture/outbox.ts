/**
 * A million events: the outbox's size and the time of a claim, alone, and while another session keeps a transaction open
 * (a snapshot and a transaction id) for the whole run.
 *
 *     npx tsx bench/capture/outbox.ts [--events 1000000] [--tenths 10]
 *
 * Each event is an UPDATE of its own, ten to a transaction, and a worker delivers meanwhile. A claim is timed with the same
 * backlog of 100 rows each time, 200 times in each tenth of the run, so that speed and load do not mix.
 */
import { parseArgs } from 'node:util';
import pg from 'pg';
import { acknowledge, claim } from '../../tests/capture/sql-worker.ts';
import { type BenchDatabase, pgbench, startDatabase } from '../support/database.ts';
import { median, quantile } from '../support/statistics.ts';
import { startBenchWorker, startCacheServer } from '../support/worker.ts';

const { values: options } = parseArgs({
  options: {
    events: { type: 'string', default: '1000000' },
    tenths: { type: 'string', default: '10' },
  },
});

interface Sample {
  readonly events: number;
  readonly bytes: number;
  readonly claim: number;
  readonly claimP99: number;
  readonly acknowledge: number;
}

async function sizeOf(database: BenchDatabase): Promise<number> {
  const [row] = await database.query<{ size: string }>(
    `select pg_total_relation_size('cache_invalidation.outbox') as size`,
  );
  return Number(row?.size);
}

/** Median and 99th percentile of claims that find 100 rows, and of their acknowledgement. */
async function timeClaims(database: BenchDatabase): Promise<Omit<Sample, 'events' | 'bytes'>> {
  const worker = new pg.Client({ connectionString: database.url });
  await worker.connect();
  const claims: number[] = [];
  const acknowledgements: number[] = [];
  // The first claim of a connection looks at everything; it is not what is measured.
  let batch = await claim(worker, null, 1000);
  while (!batch.drained) {
    await acknowledge(worker, batch.rows, batch.rests);
    batch = await claim(worker, batch.position, 1000);
  }
  await acknowledge(worker, batch.rows, batch.rests);
  for (let number = 0; number < 200; number += 1) {
    await database.query(
      `do $$ begin for i in 1..100 loop update public.events set used = used + 1 where id = i; end loop; end $$`,
    );
    const started = performance.now();
    batch = await claim(worker, batch.position, 1000);
    const claimed = performance.now();
    await acknowledge(worker, batch.rows, batch.rests);
    if (batch.rows.length !== 100) throw new Error(`A claim gave ${batch.rows.length} rows instead of 100.`);
    claims.push(claimed - started);
    acknowledgements.push(performance.now() - claimed);
  }
  await worker.end();
  return {
    claim: median(claims),
    claimP99: quantile(claims, 0.99),
    acknowledge: median(acknowledgements),
  };
}

async function run(isPinned: boolean): Promise<Sample[]> {
  const database = await startDatabase({ synchronous_commit: 'off' });
  const cacheServer = await startCacheServer();
  try {
    await database.query(`create table public.events (id integer primary key, org_id text, used bigint default 0);
      insert into public.events select i, 'org-' || i % 1000, 0 from generate_series(1, 10000) as i;
      alter table public.events set (fillfactor = 50);
      select cache_invalidation.watch('public.events', 'usage:{org_id}:*')`);
    const pinning = new pg.Client({ connectionString: database.url });
    await pinning.connect();
    const samples: Sample[] = [];
    let events = 0;
    samples.push({ events, bytes: await sizeOf(database), ...(await timeClaims(database)) });
    if (isPinned) {
      await pinning.query(`begin isolation level repeatable read; select count(*) from cache_invalidation.outbox;
        create temporary table holds_an_id (a integer)`);
    }
    const tenth = Number(options.events) / Number(options.tenths);
    for (let part = 0; part < Number(options.tenths); part += 1) {
      const worker = await startBenchWorker({
        databaseUrl: database.url,
        gatewayUrl: cacheServer.gatewayUrl,
      });
      const until = events + tenth;
      while (events < until) {
        const { transactions } = await pgbench(
          database.url,
          `${'\\set id random(1, 10000)\n'}begin;\n${'update public.events set used = used + 1 where id = :id;\n'.repeat(10)}end;\n`,
          { clients: 1, seconds: 5 },
        );
        events += transactions * 10;
      }
      await worker.stop();
      samples.push({ events, bytes: await sizeOf(database), ...(await timeClaims(database)) });
      const last = samples.at(-1);
      if (last !== undefined) console.log(describe(last));
    }
    const [row] = await database.query<{ live: string }>(
      'select count(*) as live from cache_invalidation.outbox',
    );
    console.log(`rows left: ${row?.live}`);
    await pinning.end();
    return samples;
  } finally {
    await cacheServer.stop();
    await database.stop();
  }
}

function describe(sample: Sample): string {
  return `${String(sample.events).padStart(9)} events  outbox ${(sample.bytes / 2 ** 20).toFixed(1).padStart(6)} MB  claim of 100: p50 ${sample.claim.toFixed(2)} ms, p99 ${sample.claimP99.toFixed(2)} ms, acknowledge ${sample.acknowledge.toFixed(2)} ms`;
}

for (const isPinned of [false, true]) {
  console.log(isPinned ? 'while another session keeps a transaction open:' : 'alone:');
  const samples = await run(isPinned);
  const [first, ...others] = samples;
  const worst = Math.max(...others.map((sample) => sample.claim));
  console.log(`at the start: ${first === undefined ? '' : describe(first)}`);
  console.log(`slowest tenth / start: ${(worst / (first?.claim ?? Number.NaN)).toFixed(2)}`);
}
process.exit(0);
