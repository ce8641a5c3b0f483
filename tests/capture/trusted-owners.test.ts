/**
 * Whose code the capture functions run with their owner's rights: code of the tables' owners when there is a join, of which
 * watch() warns; no other code without one.
 */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

let database: ClonedDatabase;
let client: pg.Client;
let warnings: string[];

beforeAll(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url });
  client.on('notice', ({ severity, message = '' }) => {
    if (severity === 'WARNING') warnings.push(message);
  });
  await client.connect();
  await client.query(`create table public.orders (id text primary key, user_id text);
    create table public.items (id integer primary key, order_id text);
    insert into public.orders values ('1', 'u')`);
});

// Roles are the server's: everything here happens in transactions that are rolled back.
beforeEach(async () => {
  await client.query('begin; create role fencepost_test_tenant');
  warnings = [];
});

afterEach(async () => {
  await client?.query('rollback');
});

afterAll(async () => {
  await client?.end();
  await database?.drop();
});

const watchJoined = `select cache_invalidation.watch('public.items', 'user:{o.user_id}', join => 'public.orders o on o.id = row.order_id')`;

test.each(['orders', 'items'])('a join names the owner of %s, who has fewer rights', async (table) => {
  await client.query(`alter table public.${table} owner to fencepost_test_tenant`);
  await client.query(watchJoined);
  expect(warnings).toEqual([
    `fencepost_test_tenant, who owns public.${table}, can run code with the rights of postgres, who owns the capture functions`,
  ]);
});

test('not one who has these rights, nor without a join', async () => {
  await client.query(watchJoined);
  await client.query(`alter table public.orders owner to fencepost_test_tenant; alter table public.items owner to fencepost_test_tenant;
    select cache_invalidation.watch('public.items', 'item:{order_id}'); grant postgres to fencepost_test_tenant`);
  await client.query(watchJoined);
  expect(warnings).toEqual([]);
});

test.each([
  {
    name: 'a cast of a column’s type',
    statement: `create type public.wrapped as (id text); alter type public.wrapped owner to fencepost_test_tenant;
      alter function public.traitor() owner to fencepost_test_tenant;
      create function public.unwrap(public.wrapped) returns text language sql immutable return case when public.traitor() then ($1).id end;
      create cast (public.wrapped as text) with function public.unwrap(public.wrapped) as implicit;
      alter table public.items alter column order_id type public.wrapped using row(order_id)::public.wrapped`,
    write: `insert into public.items values (1, row('1')::public.wrapped)`,
  },
  {
    name: 'a partial index',
    statement: 'create index on public.orders (id) where public.traitor()',
    write: `insert into public.items values (1, '1')`,
  },
])('why: $name', async ({ statement, write }) => {
  await client.query(`grant insert on public.items to fencepost_test_tenant;
    create function public.traitor() returns boolean language plpgsql immutable as 'begin raise warning ''as %'', current_user; return true; end'`);
  await client.query(`${statement}; ${watchJoined}`);
  warnings = [];
  await client.query(`set local role fencepost_test_tenant; ${write}`);
  expect(warnings).toContain('as postgres');
});
