/**
 * What capture costs writers: single-row updates by primary key, with
 *
 *   none     no trigger
 *   empty    an empty statement trigger with transition tables, the floor of any such capture
 *   notify   a row trigger with pg_notify, the plain way, and somebody who listens
 *   fence    Fencepost, with a worker draining
 *   joined   the same with a target that is looked up in a parent table (not by default)
 *
 *     npx tsx bench/capture/throughput.ts [--seconds 10] [--rounds 5] [--clients 1,16,64] [--variants none,fence,joined]
 *
 * The variants are interleaved, so that what else the machine does falls on all of them; the median of the rounds
 * counts. The worker runs on the same cores as Postgres and pgbench.
 */
import { parseArgs } from 'node:util';
import pg from 'pg';
import { pgbench, type Stand, startDrainProcess, startStand } from './stand.ts';
import { median } from './statistics.ts';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '10' },
    rounds: { type: 'string', default: '5' },
    clients: { type: 'string', default: '1,16,64' },
    variants: { type: 'string', default: 'none,empty,notify,fence' },
  },
});

const rows = 100_000;
const variants = options.variants.split(',');

async function prepare(stand: Stand): Promise<void> {
  for (const variant of variants) {
    await stand.query(`create table public.${variant} (id integer primary key, org_id text not null, provider text, model text,
        used bigint not null default 0, note text);
      insert into public.${variant} select i, 'org-' || i % 1000, 'openai', 'gpt-5', 0, repeat('x', 60) from generate_series(1, ${rows}) as i`);
    await stand.query(`vacuum analyze public.${variant}`);
  }
  await stand.query(`
    create function public.empty_trigger() returns trigger language plpgsql as 'begin return null; end';
    create function public.notify_trigger() returns trigger language plpgsql as
      'begin perform pg_notify(''plain'', ''quota:'' || new.org_id); return null; end'`);
  if (variants.includes('empty')) {
    await stand.query(`create trigger empty after update on public.empty referencing old table as o new table as n
      for each statement execute function public.empty_trigger()`);
  }
  if (variants.includes('notify')) {
    await stand.query(`create trigger notify after update on public.notify
      for each row execute function public.notify_trigger()`);
  }
  if (variants.includes('joined')) {
    await stand.query(`create table public.parents (id integer primary key, org_id text);
      insert into public.parents select i, 'org-' || i from generate_series(0, 999) as i;
      alter table public.joined add column parent_id integer;
      update public.joined set parent_id = id % 1000;
      select cache_invalidation.watch('public.joined', 'quota:{p.org_id}:*', join => 'public.parents p on p.id = row.parent_id')`);
    await stand.query('vacuum full analyze public.joined');
  }
  if (variants.includes('fence')) {
    await stand.query(`select cache_invalidation.watch('public.fence', 'quota:{org_id}:*')`);
  }
}

async function measure(stand: Stand, variant: string, clients: number): Promise<number> {
  const script = `\\set id random(1, ${rows})\nupdate public.${variant} set used = used + 1 where id = :id;\n`;
  const listener = variant === 'notify' ? new pg.Client({ connectionString: stand.url }) : undefined;
  await listener?.connect();
  await listener?.query('listen plain');
  const drain = variant === 'fence' || variant === 'joined' ? await startDrainProcess(stand.url) : undefined;
  try {
    const result = await pgbench(stand.url, script, { clients, seconds: Number(options.seconds) });
    if (result.failed > 0) throw new Error(`${result.failed} transactions failed.`);
    return result.tps;
  } finally {
    await listener?.end();
    const report = await drain?.stop();
    if (report !== undefined) console.error(`  worker: ${JSON.stringify(report)}`);
    await stand.query(`vacuum public.${variant}`);
  }
}

async function main(): Promise<void> {
  const stand = await startStand();
  try {
    await prepare(stand);
    for (const clients of options.clients.split(',').map(Number)) {
      const samples = new Map(variants.map((variant) => [variant, [] as number[]]));
      for (let round = 0; round < Number(options.rounds); round += 1) {
        for (const variant of variants) {
          const tps = await measure(stand, variant, clients);
          samples.get(variant)?.push(tps);
          console.error(`  ${clients} clients, round ${round + 1}, ${variant}: ${Math.round(tps)} tps`);
        }
      }
      const base = median(samples.get('none') ?? []);
      for (const [variant, tps] of samples) {
        const sorted = tps.map(Math.round).sort((a, b) => a - b);
        console.log(
          `${String(clients).padStart(3)} clients  ${variant.padEnd(7)} ${String(Math.round(median(tps))).padStart(7)} tps  ${(median(tps) / base).toFixed(2)}   [${sorted.join(', ')}]`,
        );
      }
    }
  } finally {
    await stand.stop();
  }
}

await main();
process.exit(0);
