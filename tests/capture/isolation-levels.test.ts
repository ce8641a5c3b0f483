/** Writers in repeatable read and serializable: what they see is old, and what they read may abort others. */
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

let database: ClonedDatabase;
let one: pg.Client;
let two: pg.Client;

beforeAll(async () => {
  database = await cloneDatabase();
  [one, two] = [
    new pg.Client({ connectionString: database.url }),
    new pg.Client({ connectionString: database.url }),
  ];
  await Promise.all([one.connect(), two.connect()]);
});

afterAll(async () => {
  await Promise.all([one?.end(), two?.end()]);
  await database?.drop();
});

beforeEach(async () => {
  await one.query('truncate cache_invalidation.changes');
});

const targets = async () =>
  (
    await one.query<{ target: string }>('select target from cache_invalidation.outbox order by target')
  ).rows.map(({ target }) => target);

test('a child whose partitioned parent is newer than its snapshot has the parent’s target', async () => {
  await one.query(`create table public.orders (id integer primary key, user_id text) partition by hash (id);
    create table public.orders_0 partition of public.orders for values with (modulus 1, remainder 0);
    create table public.items (id integer primary key, order_id integer references public.orders on delete cascade);
    select cache_invalidation.watch('public.orders', 'user:{user_id}:orders'),
      cache_invalidation.watch('public.items', 'user:{o.user_id}:orders', join => 'public.orders o on o.id = row.order_id')`);
  await one.query('begin isolation level repeatable read; select from public.orders');
  await two.query(`insert into public.orders values (7, 'u9'); truncate cache_invalidation.changes`);
  await one.query('insert into public.items values (1, 7); commit');
  expect(await targets()).toEqual(['user:u9:orders']);
});

test('bulk writes to two partitioned tables do not abort each other', async () => {
  for (const name of ['left_half', 'right_half']) {
    await one.query(`create table public.${name} (id integer, n integer) partition by range (id);
      create table public.${name}_0 partition of public.${name} for values from (0) to (100000);
      insert into public.${name} select i, 0 from generate_series(1, 3000) as i;
      select cache_invalidation.watch('public.${name}', '${name}:{id}')`);
  }
  await one.query('truncate cache_invalidation.changes');
  await one.query('begin isolation level serializable; update public.left_half set n = 1');
  await two.query('begin isolation level serializable; update public.right_half set n = 1');
  await one.query('update public.left_half set n = 2 where id = 5');
  await two.query('update public.right_half set n = 2 where id = 7');
  await one.query('commit');
  await two.query('commit');
  expect(await targets()).toEqual(['left_half:*', 'right_half:*']);
  const { rows } = await one.query('select count(*)::int from cache_invalidation.changes');
  expect(rows).toEqual([{ count: 6002 }]);
});
