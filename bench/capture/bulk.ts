/**
 * What capture costs statements of many rows: an ordinary table and a partitioned one, each with a watch and without.
 *
 *     npx tsx bench/capture/bulk.ts [--rows 1000000] [--partitioned 200000]
 */
import { parseArgs } from 'node:util';
import { type Stand, startStand } from './support.ts';

const { values: options } = parseArgs({
  options: {
    rows: { type: 'string', default: '1000000' },
    partitioned: { type: 'string', default: '200000' },
  },
});

async function seconds(stand: Stand, statement: string): Promise<string> {
  const startedAt = performance.now();
  await stand.query(statement);
  return `${((performance.now() - startedAt) / 1000).toFixed(1)} s`;
}

async function main(): Promise<void> {
  const stand = await startStand();
  try {
    const half = Number(options.partitioned) / 2;
    for (const name of ['plain', 'watched']) {
      await stand.query(`create table public.${name} (id integer primary key, org text, x integer default 0);
        create table public.parted_${name} (id integer, org text, x integer default 0) partition by range (id);
        create table public.parted_${name}_1 partition of public.parted_${name} for values from (0) to (${half});
        create table public.parted_${name}_2 partition of public.parted_${name} for values from (${half}) to (${2 * half})`);
    }
    await stand.query(`select cache_invalidation.watch('public.watched', 'org:{org}:*');
      select cache_invalidation.watch('public.parted_watched', 'org:{org}:*')`);
    for (const [table, rows] of [
      ['plain', options.rows],
      ['watched', options.rows],
      ['parted_plain', options.partitioned],
      ['parted_watched', options.partitioned],
    ] as const) {
      await stand.query('truncate cache_invalidation.outbox');
      const insert = `insert into public.${table} select i, 'org-' || i % 900 from generate_series(0, ${rows} - 1) as i`;
      const inserted = await seconds(stand, insert);
      const updated = await seconds(stand, `update public.${table} set x = x + 1`);
      const deleted = await seconds(stand, `delete from public.${table}`);
      const [outbox] = await stand.query<{ rows: string; size: string }>(
        `select count(*) as rows, pg_size_pretty(pg_total_relation_size('cache_invalidation.outbox')) as size
           from cache_invalidation.outbox`,
      );
      console.log(
        `${table.padEnd(15)} ${rows} rows: insert ${inserted}, update ${updated}, delete ${deleted}; outbox ${outbox?.rows} rows, ${outbox?.size}`,
      );
    }
  } finally {
    await stand.stop();
  }
}

await main();
process.exit(0);
