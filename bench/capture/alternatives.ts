/**
 * What each part of capture costs, and what other ways of building it would: single-row updates by primary key with a
 * trigger that does a little more from line to line.
 *
 *     npx tsx bench/capture/alternatives.ts [--seconds 2] [--rounds 9] [--clients 64] [--protocol prepared]
 *
 * The machine's speed changes by the minute, so each run of a variant stands between two of the table without a trigger, and counts as
 * its ratio to their mean; the median over the rounds is printed. No worker runs: see throughput.ts for the whole.
 */
import { parseArgs } from 'node:util';
import { pgbench, type Stand, startStand } from './stand.ts';
import { median } from './statistics.ts';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '2' },
    rounds: { type: 'string', default: '9' },
    clients: { type: 'string', default: '64' },
    protocol: { type: 'string', default: 'prepared' },
  },
});

const rows = 100_000;
const row = 'for each row';
const statement = 'referencing old table as old_rows new table as new_rows for each statement';
const definer = 'security definer set search_path = pg_catalog, pg_temp';
const target = `'quota:' || new.org_id || ':*'`;
const bell = `case when pg_try_advisory_xact_lock_shared(cache_invalidation.doorbell_lock()) then 'u' else cache_invalidation.heard() end`;

interface Alternative {
  readonly what: string;
  readonly level: string;
  readonly rights?: string;
  readonly body: string;
}

const alternatives: Record<string, Alternative> = {
  row_empty: { what: 'row trigger that does nothing', level: row, body: '' },
  statement_empty: {
    what: 'statement trigger with both transition tables, the same',
    level: statement,
    body: '',
  },
  row_heap: {
    what: 'row trigger, one INSERT into a table without an index',
    level: row,
    body: `insert into public.heap (target) values (${target});`,
  },
  row_definer: {
    what: '… SECURITY DEFINER with a search_path',
    level: row,
    rights: definer,
    body: `insert into public.heap (target) values (${target});`,
  },
  row_outbox: {
    what: '… into the outbox, with its columns and its index',
    level: row,
    rights: definer,
    body: `insert into cache_invalidation.outbox (watch_id, op, target) values (1, 'u', ${target});`,
  },
  row_rung: {
    what: '… with the bell inside the INSERT',
    level: row,
    rights: definer,
    body: `insert into cache_invalidation.outbox (watch_id, op, target) values (1, ${bell}, ${target});`,
  },
  statement_rung: {
    what: 'statement trigger, INSERT … SELECT DISTINCT, definer, outbox, bell',
    level: statement,
    rights: definer,
    body: `insert into cache_invalidation.outbox (watch_id, op, target)
      select 1, ${bell}, k.target from (select distinct 'quota:' || u.org_id || ':*' as target
        from (select org_id from old_rows union select org_id from new_rows) as u) as k;`,
  },
};

async function prepare(stand: Stand): Promise<void> {
  await stand.query(`create table public.heap (target text, at timestamptz default now());
    create function cache_invalidation.heard() returns "char" language plpgsql as
      $$ begin perform cache_invalidation.ring(); return 'u'; end $$`);
  for (const name of ['none', ...Object.keys(alternatives), 'fencepost']) {
    await stand.query(`create table public.${name} (id integer primary key, org_id text not null, provider text, model text,
        used bigint not null default 0, note text);
      insert into public.${name} select i, 'org-' || i % 1000, 'openai', 'gpt-5', 0, repeat('x', 60) from generate_series(1, ${rows}) as i`);
    await stand.query(`vacuum analyze public.${name}`);
  }
  for (const [name, { level, rights = '', body }] of Object.entries(alternatives)) {
    await stand.query(`create function public.trigger_${name}() returns trigger language plpgsql ${rights} as
        $$ begin ${body} return null; end $$;
      create trigger captured after update on public.${name} ${level} execute function public.trigger_${name}()`);
  }
  await stand.query(`select cache_invalidation.watch('public.fencepost', 'quota:{org_id}:*')`);
}

async function measure(stand: Stand, name: string): Promise<number> {
  const script = `\\set id random(1, ${rows})\nupdate public.${name} set used = used + 1 where id = :id;\n`;
  const result = await pgbench(stand.url, script, {
    clients: Number(options.clients),
    seconds: Number(options.seconds),
    protocol: options.protocol,
  });
  if (result.failed > 0) throw new Error(`${result.failed} transactions failed.`);
  await stand.query('truncate cache_invalidation.outbox, public.heap');
  await stand.query(`vacuum public.${name}`);
  return result.tps;
}

async function main(): Promise<void> {
  const stand = await startStand();
  try {
    await prepare(stand);
    const ratios = new Map<string, number[]>();
    let before = await measure(stand, 'none');
    for (let round = 0; round < Number(options.rounds); round += 1) {
      for (const name of [...Object.keys(alternatives), 'fencepost']) {
        const tps = await measure(stand, name);
        const after = await measure(stand, 'none');
        ratios.set(name, [...(ratios.get(name) ?? []), tps / ((before + after) / 2)]);
        before = after;
      }
    }
    for (const [name, samples] of ratios) {
      const sorted = samples.map((ratio) => ratio.toFixed(2)).sort();
      const what = alternatives[name]?.what ?? 'Fencepost: two statements, protected, encoded';
      console.log(`${median(samples).toFixed(2)}  ${what}   [${sorted.join(' ')}]`);
    }
  } finally {
    await stand.stop();
  }
}

await main();
process.exit(0);
