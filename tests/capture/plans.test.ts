/**
 * How claim() reads changes and joined tables. The session of a worker claims large and small batches one after the other: neither may
 * leave the other with a plan that reads a whole table, nor may a batch cost the square of its changes. Read from auto_explain, since
 * times would depend on the machine.
 */
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { acknowledge, type Batch, claim } from './sql-worker.ts';

interface Node {
  readonly 'Node Type': string;
  readonly 'Total Cost': number;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly Plans?: readonly Node[];
}

let database: ClonedDatabase;
let writer: pg.Client;
let worker: pg.Client;
let position: string | null;
let plans: Node[];

beforeEach(async () => {
  database = await cloneDatabase();
  [writer, worker] = [
    new pg.Client({ connectionString: database.url }),
    new pg.Client({ connectionString: database.url }),
  ];
  await Promise.all([writer.connect(), worker.connect()]);
  position = null;
  worker.on('notice', ({ message = '' }) => {
    const start = message.indexOf('{');
    if (!message.includes('plan:') || start === -1) return;
    const { 'Query Text': query, Plan: plan } = JSON.parse(message.slice(start));
    if (/\bchanges\b/.test(query)) plans.push(plan);
  });
  await worker.query(`load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on;
    set auto_explain.log_timing = off; set auto_explain.log_nested_statements = on; set auto_explain.log_format = json;
    set auto_explain.log_level = notice`);
});

afterEach(async () => {
  await Promise.all([writer?.end(), worker?.end()]);
  await database?.drop();
});

/** Delivers what the statement changes; leaves the plans of the claims and acknowledgements in `plans`. */
async function deliver(statement: string): Promise<Batch[]> {
  await writer.query(statement);
  const batches: Batch[] = [];
  plans = [];
  do {
    const batch = await claim(worker, position, 2_000);
    position = batch.position;
    batches.push(batch);
    await acknowledge(worker, batch.xids);
  } while (batches.at(-1)?.drained !== true);
  expect(plans.length).toBeGreaterThanOrEqual(3);
  return batches;
}

const nodes = (plan: Node): Node[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)];
/** Rows that the plans' nodes gave, whoever threw them away. */
const work = () =>
  plans.flatMap(nodes).reduce((sum, node) => sum + node['Actual Rows'] * node['Actual Loops'], 0);

/** Postgres's own jit_above_cost: above it a plan is compiled each time it runs, which takes some 50 ms. */
const COMPILED_ABOVE = 100_000;

describe('after a bulk statement', () => {
  beforeEach(async () => {
    await writer.query(`create table public.lines (id integer primary key, kind text, x integer default 0, y integer default 0);
      select cache_invalidation.watch('public.lines', 'line:{kind}:*');
      select cache_invalidation.watch('public.lines', 'other:{kind}:*', columns => '{x}')`);
    await deliver(`insert into public.lines select i, 'k' || i % 50 from generate_series(1, 20000) as i`);
  });

  test.each([
    ['update', 'update public.lines set x = x + 1', 'update public.lines set x = x + 1 where id = 1'],
    [
      'update of two rows',
      'update public.lines set x = x + 1',
      'update public.lines set x = x + 1 where id <= 2',
    ],
    [
      'insert',
      `insert into public.lines select i from generate_series(30000, 50000) as i`,
      'insert into public.lines values (60000)',
    ],
    ['delete', 'delete from public.lines where id > 2', 'delete from public.lines where id = 1'],
  ])('the claim of an %s of a row reads a row, and is planned for few', async (_, bulk, single) => {
    await deliver(bulk);
    await deliver(single);
    expect(work()).toBeLessThan(200);
    for (const plan of plans) expect(plan['Total Cost']).toBeLessThan(COMPILED_ABOVE / 10);
  });
});

describe('with a join', () => {
  beforeEach(async () => {
    await writer.query(`create table public.orders (id integer primary key, user_id text);
      create table public.items (id integer primary key, order_id integer references public.orders on delete set null, n integer);
      create index on public.items (order_id);
      insert into public.orders select i, 'u' || i from generate_series(1, 20000) as i;
      insert into public.items select i, 1, 0 from generate_series(1, 2000) as i;
      select cache_invalidation.watch('public.items', 'user:{o.user_id}:orders', "join" => 'public.orders o on o.id = row.order_id');
      select cache_invalidation.watch('public.orders', 'user:{user_id}:orders');
      analyze public.orders; analyze public.items`);
    await deliver('update public.items set n = 1 where id = 1');
  });

  test('a cascade that sets many children to NULL costs as much as their number, not its square', async () => {
    await deliver('delete from public.orders where id = 1');
    expect(work()).toBeGreaterThan(2_000);
    expect(work()).toBeLessThan(100 * 2_000);
  });

  test.each([
    ['a row', 'insert into public.items values (100000, 1, 0)'],
    ['two rows', 'insert into public.items values (100000, 1, 0), (100001, 2, 0)'],
    ['a row without a parent', 'insert into public.items values (100000, null, 0)'],
    ['a row that moves', 'update public.items set order_id = 7 where id = 1'],
  ])(
    'after a bulk statement, %s finds its parent by the index, not by reading all parents',
    async (_, statement) => {
      await deliver('insert into public.items select i, i, 0 from generate_series(2001, 20000) as i');
      const [batch] = await deliver(statement);
      expect(batch?.rows.map(({ error }) => error).filter((error) => error !== null)).toEqual([]);
      expect(work()).toBeLessThan(200);
    },
  );

  test('a batch of a thousand small transactions looks each parent up', async () => {
    await deliver(
      'do $$ begin for i in 3001..4000 loop insert into public.items values (i, i, 0); commit; end loop; end $$',
    );
    expect(work()).toBeLessThan(30 * 1_000);
  });
});
