/**
 * Whose code a claim runs with the rights of the schema's owner: that of the owners of joined tables, of which watch() warns. (That no
 * other code runs, and none in a writer's transaction: rights.test.ts.)
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

test('a join names the owner of the joined table, who has fewer rights', async () => {
  await client.query('alter table public.orders owner to fencepost_test_tenant');
  await client.query(watchJoined);
  expect(warnings).toEqual([
    'fencepost_test_tenant, who owns public.orders, can run code with the rights of postgres, who owns the capture functions',
  ]);
});

test.each([
  { what: 'partition', partitioned: 'partition by list (id)', below: 'partition of public.shared default' },
  { what: 'inheritance child', partitioned: '', below: '(check (id > 0)) inherits (public.shared)' },
])(
  'and the owner of each $what of it; whoever becomes an owner later stands in problems()',
  async ({ partitioned, below }) => {
    await client.query(`create table public.shared (id integer primary key, user_id text) ${partitioned};
    create table public.below ${below}; alter table public.below owner to fencepost_test_tenant;
    create table public.lines (id integer primary key, shared_id integer);
    select cache_invalidation.watch('public.lines', 'user:{s.user_id}', join => 'public.shared s on s.id = row.shared_id')`);
    const problems = async () =>
      (await client.query<{ problem: string }>('select problem, severity from cache_invalidation.problems()'))
        .rows;
    const trusted = (tables: string) => [
      `fencepost_test_tenant, who owns ${tables}, can run code with the rights of postgres, who owns the capture functions`,
    ];
    expect(warnings).toEqual(trusted('public.below'));
    await client.query('alter table public.below owner to postgres');
    expect(await problems()).toEqual([]);
    await client.query(
      'alter table public.shared owner to fencepost_test_tenant; alter table public.below owner to fencepost_test_tenant',
    );
    expect(await problems()).toEqual(
      trusted('public.below, public.shared').map((problem) => ({ problem, severity: 'notice' })),
    );
  },
);

test('not the owner of the watched table, not one who has these rights, and nobody without a join', async () => {
  await client.query('alter table public.items owner to fencepost_test_tenant');
  await client.query(watchJoined);
  await client.query(`alter table public.orders owner to fencepost_test_tenant;
    select cache_invalidation.watch('public.items', 'item:{order_id}'); grant postgres to fencepost_test_tenant`);
  await client.query(watchJoined);
  expect(warnings).toEqual([]);
});

test.each([
  { table: 'orders', seen: ['as postgres'] },
  { table: 'items', seen: [] },
])('why: a partial index of $table runs when the worker claims', async ({ table, seen }) => {
  await client.query(`grant insert on public.items to fencepost_test_tenant;
    ${watchJoined};
    create function public.traitor() returns boolean language plpgsql immutable as 'begin raise warning ''as %'', current_user; return true; end';
    create index on public.${table} (id) where public.traitor();
    set local role fencepost_test_tenant; insert into public.items values (1, '1'); reset role`);
  warnings = [];
  const { rows } = await client.query<{ target: string }>('select target from cache_invalidation.outbox');
  expect(rows).toContainEqual({ target: 'user:u' });
  expect([...new Set(warnings)]).toEqual(seen);
});
