/**
 * What capture costs writers: updates of one row by primary key.
 *
 *   none         no trigger
 *   empty        an empty statement trigger with transition tables: the floor of any such capture
 *   notify       a row trigger with pg_notify, and one listener
 *   bare         a row trigger with one INSERT into a table without an index: the floor of anything durable. Nobody could claim
 *                from that table, and a bulk statement would write one row for each of its rows.
 *   outbox       a statement trigger that writes the distinct keys into a plain outbox, which nobody claims from: no rights, no
 *                encoding, no protection of the write, no wakeup
 *   workerless   Fencepost without a worker: what the trigger alone costs
 *   fencepost    Fencepost with the worker, the gateway and Redis on the same processors
 *   joined       the same with a target that is looked up in a parent table
 *
 *     npx tsx bench/capture/throughput.ts [--seconds 10] [--rounds 5] [--clients 1,16,64] [--variants none,fencepost] [--protocol simple] [--request]
 *
 * `--protocol` is pgbench's: `prepared`, where a transaction costs least and a trigger weighs most; `extended`; or `simple`. With
 * `--request` each update is what PostgREST sends: a transaction of four statements, with the caller's role and settings. The
 * variants are interleaved, so that all of them meet the same load of the machine. The median of the rounds counts.
 */
import { parseArgs } from 'node:util';
import pg from 'pg';
import { type BenchDatabase, pgbench, startDatabase } from '../support/database.ts';
import { median } from '../support/statistics.ts';
import { type CacheServer, startBenchWorker, startCacheServer } from '../support/worker.ts';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '5' },
    clients: { type: 'string', default: '1,16,64' },
    variants: { type: 'string', default: 'none,empty,notify,bare,outbox,workerless,fencepost,joined' },
    protocol: { type: 'string', default: 'prepared' },
    request: { type: 'boolean', default: false },
  },
});

const ROWS = 100_000;
const variants = options.variants.split(',');

async function prepare(database: BenchDatabase): Promise<void> {
  for (const variant of variants) {
    await database.query(`create table public.${variant} (id integer primary key, org_id text not null, provider text, model text,
        used bigint not null default 0, note text);
      insert into public.${variant} select i, 'org-' || i % 1000, 'openai', 'gpt-5', 0, repeat('x', 60) from generate_series(1, ${ROWS}) as i`);
    await database.query(`vacuum analyze public.${variant}`);
  }
  await database.query(`
    create function public.empty_trigger() returns trigger language plpgsql as 'begin return null; end';
    create function public.notify_trigger() returns trigger language plpgsql as
      'begin perform pg_notify(''plain'', ''quota:'' || new.org_id); return null; end'`);
  if (variants.includes('empty')) {
    await database.query(`create trigger empty after update on public.empty referencing old table as o new table as n
      for each statement execute function public.empty_trigger()`);
  }
  if (variants.includes('notify')) {
    await database.query(`create trigger notify after update on public.notify
      for each row execute function public.notify_trigger()`);
  }
  if (variants.includes('bare')) {
    await database.query(`create table public.bare_outbox (target text, at timestamptz default now());
      create function public.bare_trigger() returns trigger language plpgsql as $$
      begin
        insert into public.bare_outbox (target) values ('quota:' || new.org_id || ':*');
        return null;
      end $$;
      create trigger bare after update on public.bare for each row execute function public.bare_trigger()`);
  }
  if (variants.includes('outbox')) {
    await database.query(`create table public.plain_outbox (id bigint generated always as identity primary key, target text, at timestamptz default now());
      create function public.outbox_trigger() returns trigger language plpgsql as $$
      begin
        insert into public.plain_outbox (target)
          select distinct 'quota:' || u.org_id || ':*' from (select org_id from o union select org_id from n) as u;
        return null;
      end $$;
      create trigger outbox after update on public.outbox referencing old table as o new table as n
      for each statement execute function public.outbox_trigger()`);
  }
  if (variants.includes('joined')) {
    await database.query(`create table public.parents (id integer primary key, org_id text);
      insert into public.parents select i, 'org-' || i from generate_series(0, 999) as i;
      alter table public.joined add column parent_id integer;
      update public.joined set parent_id = id % 1000;
      select cache_invalidation.watch('public.joined', 'quota:{p.org_id}:*', join => 'public.parents p on p.id = row.parent_id')`);
    await database.query('vacuum full analyze public.joined');
  }
  await database.query('grant all on all tables in schema public to authenticated');
  for (const variant of variants) {
    if (variant !== 'fencepost' && variant !== 'workerless') continue;
    await database.query(`select cache_invalidation.watch('public.${variant}', 'quota:{org_id}:*')`);
  }
}

/** What PostgREST sends for a PATCH that returns nothing. Its unpacking of the body as JSON is left out. */
function request(update: string): string {
  return `begin isolation level read committed read write;
    select set_config('search_path', '"public"', true), set_config('role', 'authenticated', true),
      set_config('request.jwt.claims', '{"sub":"user-1","role":"authenticated","aud":"authenticated"}', true),
      set_config('request.method', 'PATCH', true), set_config('request.path', '/quotas', true),
      set_config('request.headers', '{"accept":"*/*","content-type":"application/json","host":"localhost"}', true),
      set_config('request.cookies', '{}', true);
    with pgrst_source as (${update} returning 1)
      select '' as total_result_set, count(*) as page_total, array[]::text[] as header, ''::text as body,
        nullif(current_setting('response.headers', true), '') as response_headers,
        nullif(current_setting('response.status', true), '') as response_status
      from pgrst_source;
    commit;
`;
}

async function measure(
  database: BenchDatabase,
  cacheServer: CacheServer,
  variant: string,
  clients: number,
): Promise<number> {
  const update = `update public.${variant} set used = used + 1 where id = :id`;
  const script = `\\set id random(1, ${ROWS})\n${options.request ? request(update) : `${update};\n`}`;
  const listener = variant === 'notify' ? new pg.Client({ connectionString: database.url }) : undefined;
  await listener?.connect();
  await listener?.query('listen plain');
  const worker =
    variant === 'fencepost' || variant === 'joined'
      ? await startBenchWorker({ databaseUrl: database.url, gatewayUrl: cacheServer.gatewayUrl })
      : undefined;
  try {
    const result = await pgbench(database.url, script, {
      clients,
      seconds: Number(options.seconds),
      protocol: options.protocol,
    });
    if (result.failed > 0) throw new Error(`${result.failed} transactions failed.`);
    return result.tps;
  } finally {
    await listener?.end();
    await worker?.stop();
    await database.query('truncate cache_invalidation.outbox');
    if (variants.includes('bare')) await database.query('truncate public.bare_outbox');
    if (variants.includes('outbox')) await database.query('truncate public.plain_outbox');
    await database.query(`vacuum public.${variant}`);
  }
}

async function main(): Promise<void> {
  const database = await startDatabase();
  const cacheServer = await startCacheServer();
  try {
    await prepare(database);
    for (const clients of options.clients.split(',').map(Number)) {
      const samples = new Map(variants.map((variant) => [variant, [] as number[]]));
      for (let round = 0; round < Number(options.rounds); round += 1) {
        for (const variant of variants) {
          const tps = await measure(database, cacheServer, variant, clients);
          samples.get(variant)?.push(tps);
          console.error(`  ${clients} clients, round ${round + 1}, ${variant}: ${Math.round(tps)} tps`);
        }
      }
      const base = median(samples.get('none') ?? []);
      for (const [variant, tps] of samples) {
        const sorted = tps.map(Math.round).sort((a, b) => a - b);
        console.log(
          `${String(clients).padStart(3)} clients  ${variant.padEnd(10)} ${String(Math.round(median(tps))).padStart(7)} tps  ${(median(tps) / base).toFixed(2)}   [${sorted.join(', ')}]`,
        );
      }
    }
  } finally {
    await cacheServer.stop();
    await database.stop();
  }
}

await main();
process.exit(0);
