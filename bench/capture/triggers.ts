/**
 * Triggers that do a little more from one to the next: what each part of capture costs, and what other ways of building it
 * would. Each captures the UPDATEs of a table of its own, whose name is the trigger's; `none` has no trigger, and `fencepost` is
 * watched.
 */
import type { Stand } from './support.ts';

export const rows = 100_000;

interface Trigger {
  readonly what: string;
  readonly level: string;
  readonly rights?: string;
  readonly declare?: string;
  readonly body: string;
}

const row = 'for each row';
const statement = 'referencing old table as old_rows new table as new_rows for each statement';
const definer = 'security definer set search_path = pg_catalog, pg_temp';
const target = `'quota:' || new.org_id || ':*'`;
const ring = 'pg_try_advisory_xact_lock_shared(cache_invalidation.doorbell_lock())';
const bell = `if not ${ring} then perform cache_invalidation.ring(); end if;`;
const bellInside = `case when ${ring} then 'u' else cache_invalidation.heard() end`;

const triggers: Record<string, Trigger> = {
  row_empty: { what: 'row trigger that does nothing', level: row, body: '' },
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
  row_indexed: {
    what: '… into a table of two columns, one of them indexed',
    level: row,
    rights: definer,
    body: `insert into public.indexed (target) values (${target});`,
  },
  row_least: {
    what: '… with the bell: the least that a row trigger must do',
    level: row,
    rights: definer,
    body: `insert into public.indexed (target) values (${target}); ${bell}`,
  },
  row_outbox: {
    what: 'row trigger, definer, into the outbox, with its columns and its index',
    level: row,
    rights: definer,
    body: `insert into cache_invalidation.outbox (watch_id, op, target) values (1, 'u', ${target});`,
  },
  row_rung: {
    what: '… with the bell inside the INSERT',
    level: row,
    rights: definer,
    body: `insert into cache_invalidation.outbox (watch_id, op, target) values (1, ${bellInside}, ${target});`,
  },
  statement_empty: {
    what: 'statement trigger with both transition tables that does nothing',
    level: statement,
    body: '',
  },
  statement_definer: {
    what: '… SECURITY DEFINER with a search_path',
    level: statement,
    rights: definer,
    body: '',
  },
  statement_read: {
    what: '… and reads the old and the new row',
    level: statement,
    rights: definer,
    declare: 'declare found text;',
    body: 'select n.org_id into found from old_rows as o, new_rows as n;',
  },
  statement_indexed: {
    what: '… and inserts into a table of two columns, one of them indexed',
    level: statement,
    rights: definer,
    declare: 'declare found text;',
    body: `select n.org_id into found from old_rows as o, new_rows as n; insert into public.indexed (target) values (found);`,
  },
  statement_least: {
    what: '… with the bell: the least that a statement trigger must do',
    level: statement,
    rights: definer,
    declare: 'declare found text;',
    body: `select n.org_id into found from old_rows as o, new_rows as n; insert into public.indexed (target) values (found); ${bell}`,
  },
  statement_rung: {
    what: 'statement trigger, definer, INSERT … SELECT DISTINCT into the outbox, bell',
    level: statement,
    rights: definer,
    body: `insert into cache_invalidation.outbox (watch_id, op, target)
      select 1, ${bellInside}, k.target from (select distinct 'quota:' || u.org_id || ':*' as target
        from (select org_id from old_rows union select org_id from new_rows) as u) as k;`,
  },
};

/** Names of tables, each with what its trigger does, in the order of the trigger's work; `none` is not among them. */
export const captured: ReadonlyMap<string, string> = new Map([
  ...Object.entries(triggers).map(([name, { what }]) => [name, what] as const),
  ['fencepost', 'Fencepost: compared, protected, encoded, into the outbox, bell'],
]);

/** Creates and fills all tables, with their triggers. */
export async function createTables(stand: Stand): Promise<void> {
  await stand.query(`create table public.heap (target text, at timestamptz default now());
    create table public.indexed (xid xid8 not null default pg_current_xact_id(), target text not null);
    create index on public.indexed (xid);
    create function cache_invalidation.heard() returns "char" language plpgsql as
      $$ begin perform cache_invalidation.ring(); return 'u'; end $$`);
  for (const name of ['none', ...captured.keys()]) {
    await stand.query(`create table public.${name} (id integer primary key, org_id text not null, provider text, model text,
        used bigint not null default 0, note text);
      insert into public.${name} select i, 'org-' || i % 1000, 'openai', 'gpt-5', 0, repeat('x', 60) from generate_series(1, ${rows}) as i`);
    await stand.query(`vacuum analyze public.${name}`);
  }
  for (const [name, { level, rights = '', declare = '', body }] of Object.entries(triggers)) {
    await stand.query(`create function public.trigger_${name}() returns trigger language plpgsql ${rights} as
        $$ ${declare} begin ${body} return null; end $$;
      create trigger captured after update on public.${name} ${level} execute function public.trigger_${name}()`);
  }
  await stand.query(`select cache_invalidation.watch('public.fencepost', 'quota:{org_id}:*')`);
}
