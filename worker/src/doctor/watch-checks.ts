/**
 * Watches and their triggers: each watch has an always-enabled trigger for every kind of write, on the table and, for
 * TRUNCATE, on each partition; every column it names exists.
 */
import type pg from 'pg';
import { type Finding, fail, ok, warn } from './finding.ts';

/** pg_trigger.tgtype: INSERT 4, DELETE 8, UPDATE 16, TRUNCATE 32. */
const EVENTS: readonly [number, string][] = [
  [4, 'insert'],
  [8, 'delete'],
  [16, 'update'],
  [32, 'truncate'],
];

const WATCHES = `
  select w.id, w.rel::oid as oid, w.rel::text as rel, w.target, w.row_level,
         exists (select from pg_catalog.pg_class as c where c.oid = w.rel) as exists,
         coalesce((select c.relkind = 'p' from pg_catalog.pg_class as c where c.oid = w.rel), false) as partitioned,
         coalesce((
           select bit_or(t.tgtype::int) from pg_catalog.pg_trigger as t
             join pg_catalog.pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid = w.rel and t.tgenabled = 'A'
              and p.pronamespace = 'cache_invalidation'::regnamespace and p.proname = 'capture_' || w.id
         ), 0) as events,
         array(
           select t.tgname::text from pg_catalog.pg_trigger as t join pg_catalog.pg_proc as p on p.oid = t.tgfoid
            where t.tgrelid = w.rel and t.tgenabled <> 'A'
              and p.pronamespace = 'cache_invalidation'::regnamespace and p.proname = 'capture_' || w.id
         ) as disabled,
         array(
           select name from unnest(
             w.columns || array(select m[1] from regexp_matches(w.target, '\\{([^}.]+)\\}', 'g') as m)
           ) as name
            where not exists (select from pg_catalog.pg_attribute as a
                               where a.attrelid = w.rel and a.attname = name and a.attnum > 0 and not a.attisdropped)
         ) as missing_columns,
         array(
           select tree.relid::regclass::text from pg_catalog.pg_partition_tree(w.rel) as tree
            where tree.level > 0 and not exists (
              select from pg_catalog.pg_trigger as t join pg_catalog.pg_proc as p on p.oid = t.tgfoid
               where t.tgrelid = tree.relid and (t.tgtype::int & 32) <> 0 and t.tgenabled = 'A' and p.proname = 'capture_' || w.id)
         ) as bare_partitions
    from cache_invalidation.watches as w
   order by w.id`;

interface WatchRow {
  readonly id: number;
  readonly rel: string;
  readonly target: string;
  readonly exists: boolean;
  readonly events: number;
  readonly disabled: string[];
  readonly missing_columns: string[];
  readonly bare_partitions: string[];
}

export async function checkWatches(pool: pg.Pool): Promise<Finding[]> {
  const { rows } = await pool.query<WatchRow>(WATCHES);
  if (rows.length === 0) {
    return [
      fail(
        'watches',
        'no table is watched',
        "select cache_invalidation.watch('public.quotas', 'quota:{org_id}:*');",
      ),
    ];
  }
  const findings = rows.flatMap(findingsOf);
  return findings.length > 0
    ? findings
    : [ok('watches', `${rows.length} watches, all their triggers in place`)];
}

function findingsOf(watch: WatchRow): Finding[] {
  const name = `watch ${watch.rel}`;
  const repeat = `select cache_invalidation.watch('${watch.rel}', '${watch.target}');`;
  if (!watch.exists) {
    return [
      fail(
        name,
        'the table does not exist any more',
        `delete from cache_invalidation.watches where id = ${watch.id};`,
      ),
    ];
  }
  const findings: Finding[] = [];
  if (watch.missing_columns.length > 0) {
    findings.push(
      fail(
        name,
        `its columns are gone: ${watch.missing_columns.join(', ')}; writes invalidate the whole type instead`,
        `Declare it anew with columns that exist: ${repeat}`,
      ),
    );
  }
  if (watch.disabled.length > 0) {
    const triggers = watch.disabled.map(
      (trigger) => `alter table ${watch.rel} enable always trigger ${trigger};`,
    );
    findings.push(
      fail(
        name,
        `triggers are disabled, or do not fire always: ${watch.disabled.join(', ')}`,
        triggers.join(' '),
      ),
    );
  } else {
    const missing = EVENTS.filter(([bit]) => (watch.events & bit) === 0).map(([, event]) => event);
    if (missing.length > 0) {
      findings.push(
        fail(
          name,
          `no trigger for ${missing.join(', ')}: such writes invalidate nothing`,
          `Declare it again, which puts them back: ${repeat}`,
        ),
      );
    }
  }
  if (watch.bare_partitions.length > 0) {
    findings.push(
      warn(
        name,
        `TRUNCATE of these partitions is not seen: ${watch.bare_partitions.join(', ')}`,
        `Declare it again: ${repeat}`,
      ),
    );
  }
  return findings;
}
