/**
 * How the generated trigger functions are planned. Their plans are kept by the session, and made for as many rows as its first
 * statement changed; and a statement of many rows must not cost the square of their number. Read from auto_explain, since
 * times would depend on the machine.
 */
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

interface Node {
  readonly 'Node Type': string;
  readonly 'Total Cost': number;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Relation Name'?: string;
  readonly Plans?: readonly Node[];
}

let database: ClonedDatabase;
let client: pg.Client;
let plans: { query: string; plan: Node }[];

beforeEach(async () => {
  database = await cloneDatabase();
  client = await session();
});
afterEach(async () => {
  await client.end();
  await database.drop();
});

/** A session of its own, in which nothing is planned yet. */
async function session(): Promise<pg.Client> {
  const opened = new pg.Client({ connectionString: database.url });
  opened.on('notice', ({ message = '' }) => {
    const start = message.indexOf('{');
    if (!message.includes('plan:') || start === -1) return;
    const { 'Query Text': query, Plan: plan } = JSON.parse(message.slice(start));
    plans.push({ query, plan });
  });
  await opened.connect();
  return opened;
}

/** The plans of the capture's statements while this one ran. */
async function explained(statement: string): Promise<Node[]> {
  await client.query(`load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_analyze = on;
    set auto_explain.log_timing = off; set auto_explain.log_nested_statements = on; set auto_explain.log_format = json;
    set auto_explain.log_level = notice`);
  plans = [];
  await client.query(statement);
  await client.query('set auto_explain.log_min_duration = -1');
  return plans.filter(({ query }) => /\b(old_rows|new_rows)\b/.test(query)).map(({ plan }) => plan);
}

const nodes = (plan: Node): Node[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)];
/** Rows that the plans' nodes gave, whoever threw them away. */
const work = (of: readonly Node[]) =>
  of.flatMap(nodes).reduce((sum, node) => sum + node['Actual Rows'] * node['Actual Loops'], 0);

/** Postgres's own jit_above_cost: above it a plan is compiled each time it runs, which takes some 50 ms. */
const COMPILED_ABOVE = 100_000;

describe('after a bulk statement', () => {
  beforeEach(async () => {
    await client.query(`create table public.lines (id integer primary key, kind text, x integer default 0, y integer default 0);
      select cache_invalidation.watch('public.lines', 'line:{kind}:*');
      select cache_invalidation.watch('public.lines', 'other:{kind}:*', columns => '{x}');
      insert into public.lines select i, 'k' || i % 50 from generate_series(1, 20000) as i`);
    await client.end();
    client = await session();
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
  ])('an %s of a row is planned for a row', async (_, bulk, single) => {
    await client.query(bulk);
    const used = await explained(single);
    expect(used.length).toBeGreaterThanOrEqual(2);
    for (const plan of used) expect(plan['Total Cost']).toBeLessThan(COMPILED_ABOVE / 10);
  });
});

describe('with a join', () => {
  beforeEach(async () => {
    await client.query(`create table public.orders (id integer primary key, user_id text);
      create table public.items (id integer primary key, order_id integer references public.orders on delete set null, n integer);
      create index on public.items (order_id);
      select cache_invalidation.watch('public.items', 'user:{o.user_id}:orders', "join" => 'public.orders o on o.id = row.order_id');
      select cache_invalidation.watch('public.orders', 'user:{user_id}:orders');
      insert into public.orders select i, 'u' || i from generate_series(1, 20000) as i;
      insert into public.items select i, 1, 0 from generate_series(1, 2000) as i;
      analyze public.orders; analyze public.items`);
    await client.end();
    client = await session();
  });

  test('a cascade that sets many children to NULL costs as much as their number, not its square', async () => {
    await client.query('update public.items set n = 1 where id = 1');
    const used = await explained('delete from public.orders where id = 1');
    expect(used.length).toBeGreaterThan(2);
    expect(work(used)).toBeLessThan(100 * 2_000);
  });

  test.each([
    ['a row', 'insert into public.items values (100000, 1, 0)'],
    ['two rows', 'insert into public.items values (100000, 1, 0), (100001, 2, 0)'],
  ])(
    'after a bulk statement, %s finds its parent by the index, not by reading all parents',
    async (_, statement) => {
      await client.query('insert into public.items select i, i, 0 from generate_series(2001, 20000) as i');
      const used = await explained(statement);
      expect(used.length).toBeGreaterThan(0);
      expect(work(used)).toBeLessThan(500);
    },
  );

  test.each([
    ['insert into public.items select i, i, 0 from generate_series(3001, 3900) as i'],
    ['insert into public.items select i, i, 0 from generate_series(3001, 3020) as i'],
  ])('after %s, a row that moves or has no parent does not read all parents', async (first) => {
    await client.query(first);
    await client.query(first.replace('insert into', 'delete from').replace(/ select.*/, ' where id > 3000'));
    await client.query('update public.items set order_id = order_id + 1 where id <= 900');
    for (const statement of [
      'insert into public.items values (100000, null, 0)',
      'insert into public.items values (100001, null, 0), (100002, 2, 0)',
      'update public.items set order_id = 7 where id = 1',
    ]) {
      const used = await explained(statement);
      expect(used.length, statement).toBeGreaterThan(0);
      expect(work(used), statement).toBeLessThan(500);
    }
  });
});
