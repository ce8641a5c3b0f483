/**
 * Joined targets with several sessions: a row names its parent as the parent is at the claim, and the parent's own changes
 * name the rest. Neither writers nor claims wait for a joined table that somebody has locked.
 */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

let database: ClonedDatabase;
let worker: pg.Client;
let writer: pg.Client;
let other: pg.Client;

async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return client;
}

/** What a claim of everything gives, sorted; the transactions are acknowledged unless `keep`. */
async function claimed(keep?: 'keep'): Promise<string[]> {
  const { rows } = await worker.query<{
    xids: string[] | null;
    targets: string[] | null;
    errors: (string | null)[] | null;
  }>('select xids::text[], targets, errors from cache_invalidation.claim()');
  const batch = rows[0];
  if (batch === undefined) throw new Error('claim() gave no row.');
  if (keep !== 'keep') await worker.query('select cache_invalidation.acknowledge($1::xid8[])', [batch.xids]);
  const lines = (batch.targets ?? []).map((target, place) =>
    [target, batch.errors?.[place] ?? ''].join(' ').trim(),
  );
  return [...new Set(lines)].sort();
}

beforeAll(async () => {
  database = await cloneDatabase();
});

afterAll(async () => {
  await database?.drop();
});

beforeEach(async () => {
  worker = await connect();
  writer = await connect();
  other = await connect();
  await worker.query(`drop table if exists public.items, public.orders, public.notes, public.customers cascade;
    create table public.customers (id integer primary key, tenant text);
    create table public.orders (id integer primary key, user_id text, customer_id integer);
    create table public.items (id integer primary key, order_id integer, sku text);
    create table public.notes (id integer primary key);
    select cache_invalidation.watch('public.items', 'user:{o.user_id}:orders', join => 'public.orders o on o.id = row.order_id');
    select cache_invalidation.watch('public.items', 'tenant:{c.tenant}:{sku}',
      join => 'public.orders o on o.id = row.order_id join public.customers c on c.id = o.customer_id');
    select cache_invalidation.watch('public.items', 'item:{id}');
    select cache_invalidation.watch('public.notes', 'note:{id}');
    insert into public.customers values (1, 'one'), (2, 'two');
    insert into public.orders values (1, 'ann', 1), (2, 'bob', 2);
    insert into public.items values (1, 1, 'a'), (2, 2, 'b');
    truncate cache_invalidation.changes`);
});

afterEach(async () => {
  await Promise.all([worker?.end(), writer?.end(), other?.end()]);
});

test('a parent that moves between the write and the claim: old and new target', async () => {
  await writer.query(`update public.items set sku = 'c' where id = 1`);
  await other.query(`update public.orders set user_id = 'eve', customer_id = 2 where id = 1`);
  expect(await claimed()).toEqual([
    'item:1',
    'tenant:one:*',
    'tenant:two:*',
    'tenant:two:a',
    'tenant:two:c',
    'user:ann:orders',
    'user:eve:orders',
  ]);
});

test('a parent that moves, and is claimed, while the writer of its child is open: the child names the new target', async () => {
  await writer.query('begin');
  await writer.query('insert into public.items values (3, 1, $1)', ['d']);
  await other.query(`update public.orders set user_id = 'eve', customer_id = 2 where id = 1`);
  expect(await claimed()).toEqual(['tenant:one:*', 'tenant:two:*', 'user:ann:orders', 'user:eve:orders']);
  await writer.query('commit');
  expect(await claimed()).toEqual(['item:3', 'tenant:two:d', 'user:eve:orders']);
});

test.each(['repeatable read', 'serializable'])(
  'the same for a %s writer, whose snapshot still has the old parent',
  async (level) => {
    await writer.query(`begin isolation level ${level}`);
    await writer.query('select from public.orders');
    await other.query(`update public.orders set user_id = 'eve' where id = 1`);
    expect(await claimed()).toEqual(['user:ann:orders', 'user:eve:orders']);
    await writer.query('insert into public.items values (3, 1, $1)', ['d']);
    await writer.query('commit');
    expect(await claimed()).toEqual(['item:3', 'tenant:one:d', 'user:eve:orders']);
  },
);

test('a parent further away that moves while the writer of the row is open', async () => {
  await writer.query('begin');
  await writer.query(`update public.items set sku = 'c' where id = 1`);
  await other.query(`update public.customers set tenant = 'three' where id = 1`);
  expect(await claimed()).toEqual(['tenant:one:*', 'tenant:three:*']);
  await writer.query('commit');
  expect(await claimed()).toEqual(['item:1', 'tenant:three:a', 'tenant:three:c', 'user:ann:orders']);
});

test('a parent that goes between the write and the claim names the target; the child adds nothing', async () => {
  await writer.query(`update public.items set sku = 'c' where id = 1`);
  await other.query('delete from public.orders where id = 1');
  expect(await claimed()).toEqual(['item:1', 'tenant:one:*', 'user:ann:orders']);
  await writer.query(`update public.items set sku = 'd' where id = 1`);
  expect(await claimed()).toEqual(['item:1']);
});

test('a parent that comes after its child was claimed names the target', async () => {
  await writer.query(`insert into public.items values (3, 3, 'd')`);
  expect(await claimed()).toEqual(['item:3']);
  await other.query(`insert into public.orders values (3, 'eve', 3)`);
  expect(await claimed()).toEqual(['user:eve:orders']);
  await other.query(`insert into public.customers values (3, 'three')`);
  expect(await claimed()).toEqual(['tenant:three:*']);
});

test('a parent that comes with an uncommitted transaction is not read by the claim, and names the target later', async () => {
  await other.query('begin');
  await other.query(`insert into public.orders values (3, 'eve', 1)`);
  await writer.query(`insert into public.items values (3, 3, 'd')`);
  expect(await claimed()).toEqual(['item:3']);
  await other.query('commit');
  expect(await claimed()).toEqual(['tenant:one:*', 'user:eve:orders']);
});

/** Each ends with a lock that no reader gets, on a table that `user:` and `tenant:` join, on one that only `tenant:` joins, or an index. */
test.each([
  ['lock table public.orders in access exclusive mode', ['tenant:* 55P03', 'user:* 55P03']],
  ['lock table public.customers in access exclusive mode', ['tenant:* 55P03', 'user:ann:orders']],
  ['drop table public.customers', ['tenant:* 55P03', 'user:ann:orders']],
  ['alter table public.customers add column x integer', ['tenant:* 55P03', 'user:ann:orders']],
  ['reindex index public.customers_pkey', ['tenant:* 55P03', 'user:ann:orders']],
])('%s, in an open transaction: neither writer nor claim waits', async (lock, widened) => {
  await other.query('begin');
  await other.query(lock);
  // Any wait for the lock is an error of the writer, and would end only with the test.
  await writer.query(`set lock_timeout = '1ms'`);
  await writer.query(
    `update public.items set order_id = 1 where id = 1; insert into public.notes values (1)`,
  );
  // The claim waits for each target's tables as long as this, however long the lock is held.
  const { rows } = await worker.query(
    `select 'lock_timeout=10ms' = any (proconfig) as briefly from pg_proc where proname = 'run_target_query'`,
  );
  expect(rows).toEqual([{ briefly: true }]);
  expect(await claimed('keep')).toEqual(['item:1', 'note:1', ...widened]);
  // what is not acknowledged is exact when the lock is gone
  await other.query('rollback');
  expect(await claimed()).toEqual(['item:1', 'note:1', 'tenant:one:a', 'user:ann:orders']);
});

test('a parent that is dropped between the write and the claim widens its declarations alone', async () => {
  await writer.query(`update public.items set order_id = 1 where id = 1`);
  await other.query('drop table public.customers');
  const targets = await claimed();
  expect(targets).toContain('user:ann:orders');
  expect(targets).toContain('item:1');
  expect(targets).toContain('tenant:* 42804');
});

test('a parent that is rewritten while a claim waits for its lock widens: the claim sees none of its rows', async () => {
  await writer.query(`update public.items set order_id = 1 where id = 1`);
  await other.query('begin; alter table public.customers alter column id type bigint');
  // so that the claim is sure to be waiting when the migration ends
  await writer.query(`alter function cache_invalidation.run_target_query set lock_timeout = '60s'`);
  const targets = claimed('keep');
  const waiting = async () => {
    const { rows } = await writer.query(
      `select from pg_locks as l where not l.granted and l.relation = 'public.customers'::regclass`,
    );
    return rows.length > 0;
  };
  while (!(await waiting()));
  await other.query('commit');
  expect(await targets).toEqual(['item:1', 'tenant:* 55P03', 'user:ann:orders']);
  await writer.query(`alter function cache_invalidation.run_target_query set lock_timeout = '10ms'`);
});
