/**
 * A schema for each tenant, with a thousand watches and more: how long watch(), problems(), refresh() and DDL statements take.
 *
 *     npx tsx bench/capture/tenants.ts [--watches 1500]
 */
import { parseArgs } from 'node:util';
import pg from 'pg';
import { cloneFrom, startTemplate } from '../../tests/support/template.ts';
import { median, quantile } from '../support/statistics.ts';

const { values: options } = parseArgs({ options: { watches: { type: 'string', default: '1500' } } });
const tenants = Math.ceil(Number(options.watches) / 3);

const server = await startTemplate();
const database = await cloneFrom(server.url);
const client = new pg.Client({ connectionString: database.url });

async function time(statement: string): Promise<number> {
  const started = performance.now();
  await client.query(statement);
  return performance.now() - started;
}

async function report(what: string, statements: readonly string[]): Promise<void> {
  const times: number[] = [];
  for (const statement of statements) times.push(await time(statement));
  const figures = [median(times), quantile(times, 0.99)].map((value) => `${value.toFixed(1)} ms`);
  console.log(`${what.padEnd(44)} median ${figures[0]}, 99th percentile ${figures[1]}`);
}

try {
  await client.connect();
  const numbers = Array.from({ length: tenants }, (_, index) => index);
  for (const tenant of numbers) {
    await client.query(`create schema t${tenant};
      create table t${tenant}.orders (id integer primary key, user_id text);
      create table t${tenant}.items (id integer primary key, order_id integer references t${tenant}.orders);
      create table t${tenant}.prices (code text primary key, price numeric)`);
  }
  const watch = (tenant: number) => [
    `select cache_invalidation.watch('t${tenant}.orders', 't${tenant}-orders:{user_id}')`,
    `select cache_invalidation.watch('t${tenant}.prices', 't${tenant}-price:{code}')`,
    `select cache_invalidation.watch('t${tenant}.items', 't${tenant}-items:{o.user_id}', "join" => 't${tenant}.orders o on o.id = row.order_id')`,
  ];
  const [early, late] = [numbers.slice(0, -50), numbers.slice(-50)];
  for (const statement of early.flatMap(watch)) await client.query(statement);
  await client.query('analyze');
  console.log(`${late.length * 3} further watches beside ${early.length * 3}, a third of them with a join:`);
  await report(
    'watch()',
    late.flatMap((tenant) => watch(tenant).slice(0, 2)),
  );
  await report(
    'watch() with a join',
    late.map((tenant) => watch(tenant)[2] ?? ''),
  );
  await report('watch() again, as it is', late.flatMap(watch));
  const ten = numbers.slice(0, 10);
  await report(
    'problems()',
    ten.map(() => 'select from cache_invalidation.problems()'),
  );
  await report(
    'create table',
    ten.map((each) => `create table public.other_${each} (id integer)`),
  );
  await report(
    'alter table, not watched',
    ten.map((each) => `alter table public.other_${each} add column note text`),
  );
  await report(
    'drop table, not watched',
    ten.map((each) => `drop table public.other_${each}`),
  );
  await report(
    'alter table, watched',
    ten.map((each) => `alter table t${each}.orders add column note text`),
  );
  await report('refresh()', ['select cache_invalidation.refresh()']);
} finally {
  await client.end();
  await database.drop();
  await server.stop();
}
