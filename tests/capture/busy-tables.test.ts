/**
 * Tables that other sessions hold: watch(), unwatch() and refresh() give up, because all readers and writers would wait behind
 * them. A DDL statement never fails because Fencepost did not get a lock, nor because two statements wait for each other.
 */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

let database: ClonedDatabase;
let client: pg.Client;
let busy: pg.Client;
let warnings: string[];

async function connect(): Promise<pg.Client> {
  const connected = new pg.Client({ connectionString: database.url });
  await connected.connect();
  return connected;
}

beforeAll(async () => {
  database = await cloneDatabase();
});

afterAll(async () => {
  await database?.drop();
});

beforeEach(async () => {
  warnings = [];
  client = await connect();
  busy = await connect();
  await client.query(`drop table if exists public.children, public.parents;
    delete from cache_invalidation.dropped_watches;
    create table public.parents (id integer primary key, user_id text);
    create table public.children (id integer primary key, parent_id integer);
    insert into public.parents values (1, 'u');
    select cache_invalidation.watch('public.parents', 'parent:{user_id}');
    select cache_invalidation.watch('public.children', 'user:{p.user_id}', join => 'public.parents p on p.id = row.parent_id')`);
  for (const session of [client, busy]) {
    session.on('notice', ({ severity, message = '' }) => {
      if (severity === 'WARNING') warnings.push(message);
    });
  }
});

afterEach(async () => {
  await busy?.end();
  await client?.end();
});

const readingParents = 'begin; select from public.parents';
const holdingParents = 'begin; lock table public.parents in access exclusive mode';
const watchParents = `select cache_invalidation.watch('public.parents', 'other:{user_id}')`;

test('without a lock_timeout of the session: unwatch() of a table that is read gives up after 3 s', async () => {
  await busy.query(readingParents);
  await expect(client.query(`select cache_invalidation.unwatch('public.parents')`)).rejects.toMatchObject({
    code: '55P03',
    message: 'the table public.parents is busy: no lock within 3s',
    hint: expect.stringContaining('Nothing was changed'),
  });
  const { rows } = await client.query('show lock_timeout');
  expect(rows).toEqual([{ lock_timeout: '0' }]);
});

test.each([
  {
    name: 'unwatch() of a table that is read',
    held: readingParents,
    call: `select cache_invalidation.unwatch('public.parents')`,
  },
  { name: 'watch() of a table that is held', held: holdingParents, call: watchParents },
  { name: 'refresh()', held: holdingParents, call: 'select cache_invalidation.refresh()' },
])(
  '$name gives up after the session’s lock_timeout, changes nothing and leaves the setting',
  async ({ held, call }) => {
    await busy.query(held);
    await client.query(`set lock_timeout = '20ms'`);
    await expect(client.query(call)).rejects.toMatchObject({
      code: '55P03',
      message: 'the table public.parents is busy: no lock within 20ms',
      hint: expect.stringContaining('Nothing was changed'),
    });
    await busy.query('rollback');
    const { rows } = await client.query(
      `select count(*)::int as watches, current_setting('lock_timeout') as timeout from cache_invalidation.watches
      where rel = 'public.parents'::regclass`,
    );
    expect(rows).toEqual([{ watches: 1, timeout: '20ms' }]);
    await client.query(call);
    const { rows: after } = await client.query('show lock_timeout');
    expect(after).toEqual([{ lock_timeout: '20ms' }]);
  },
);

test('without a lock_timeout of the session: watch() of a table that is held gives up after 3 s', async () => {
  await busy.query(holdingParents);
  await expect(client.query(watchParents)).rejects.toMatchObject({
    message: 'the table public.parents is busy: no lock within 3s',
  });
});

test('problems() says which watches it could not check', async () => {
  await busy.query(holdingParents);
  await client.query(`set lock_timeout = '20ms'`);
  const { rows } = await client.query('select problem from cache_invalidation.problems() order by watch_id');
  expect(rows.slice(-2)).toEqual([
    {
      problem: `the watch of public.parents for 'parent:{user_id}' was not checked: the table public.parents is busy: no lock within 20ms`,
    },
    {
      problem: `the watch of public.children for 'user:{p.user_id}' was not checked: the table public.children, or one that it joins, is busy: no lock within 1ms`,
    },
  ]);
  const { rows: after } = await client.query('show lock_timeout');
  expect(after).toEqual([{ lock_timeout: '20ms' }]);
});

test('problems() keeps no lock on a table that it has looked at, for which a migration may wait', async () => {
  await client.query('begin; select * from cache_invalidation.problems()');
  await busy.query(`set lock_timeout = '20ms'; ${holdingParents}`);
});

test('problems() while the outbox is held: it says so, and lists everything else', async () => {
  await busy.query('begin; lock table cache_invalidation.outbox in access exclusive mode');
  await client.query(`set lock_timeout = '20ms'; alter table public.children disable trigger user`);
  const { rows } = await client.query(
    'select problem from cache_invalidation.problems() order by watch_id nulls last',
  );
  expect(rows).toEqual([
    { problem: expect.stringContaining('triggers are missing or disabled: public.children') },
    { problem: 'the outbox was not checked: canceling statement due to lock timeout' },
  ]);
});

test('a partition that is held is in the way of neither problems() nor another partition', async () => {
  await client.query(`drop table if exists public.parted;
    create table public.parted (id integer, org_id text) partition by list (id);
    create table public.parted_1 partition of public.parted for values in (1);
    select cache_invalidation.watch('public.parted', 'parted:{org_id}')`);
  await busy.query('begin; lock table public.parted_1 in access exclusive mode');
  await client.query(`set lock_timeout = '20ms'`);
  const { rows: problems } = await client.query('select * from cache_invalidation.problems()');
  expect(problems).toEqual([]);
  await client.query('create table public.parted_2 partition of public.parted for values in (2)');
  expect(warnings).toEqual([]);
  await client.query('delete from cache_invalidation.outbox; truncate public.parted_2');
  const { rows } = await client.query('select op, target from cache_invalidation.outbox');
  expect(rows).toEqual([{ op: 't', target: 'parted:*' }]);
});

test('DDL while a joined table is held: it succeeds with a warning, and the watch follows the rename', async () => {
  await busy.query(holdingParents);
  await client.query(`set lock_timeout = '20ms'`);
  await client.query('alter table public.children rename column parent_id to owner');
  expect(warnings).toEqual([
    'the watch of public.children for user:{p.user_id} was not brought in line: the table public.children, or one that it joins, is busy: no lock within 20ms',
  ]);
  await busy.query('rollback');
  await client.query('delete from cache_invalidation.outbox; insert into public.children values (1, 1)');
  const { rows } = await client.query('select target, error from cache_invalidation.outbox');
  expect(rows).toEqual([{ target: 'user:u', error: null }]);
});

test.each([
  'alter table public.children add column note text',
  'alter function public.idle() rename to idler',
])(
  '%s, while the table that three watches join is held: they wait for it half a second together',
  async (ddl) => {
    await client.query(`create or replace function public.idle() returns integer language sql return 1;
      drop function if exists public.idler();
      select cache_invalidation.watch('public.children', target, join => 'public.parents p on p.id = row.parent_id')
        from unnest('{"a:{p.user_id}", "b:{p.user_id}"}'::text[]) as t(target)`);
    await busy.query(holdingParents);
    await client.query(ddl);
    const limits = warnings.map((warning) => /busy: no lock within (\d+)ms$/.exec(warning)?.[1]);
    expect(limits).toEqual([expect.any(String), '1', '1']);
    expect(Number(limits[0])).toBeLessThanOrEqual(500);
    const { rows } = await client.query('show lock_timeout');
    expect(rows).toEqual([{ lock_timeout: '0' }]);
  },
);

test('DDL that is refused, and DDL that only warns, leave the transaction’s lock_timeout', async () => {
  await client.query(`begin; set local lock_timeout = '20ms'; savepoint before`);
  await expect(
    client.query('alter table public.parents rename column user_id to owner'),
  ).rejects.toMatchObject({ code: '42703' });
  await client.query('rollback to savepoint before');
  await busy.query(holdingParents);
  await client.query('alter table public.children add column note text');
  expect(warnings).toEqual([expect.stringContaining('no lock within 20ms')]);
  const { rows } = await client.query('show lock_timeout');
  expect(rows).toEqual([{ lock_timeout: '20ms' }]);
});

test('two migrations that would wait for each other in their event triggers: both succeed', async () => {
  for (const session of [client, busy]) await session.query(`set deadlock_timeout = '20ms'; begin`);
  await client.query('lock table public.children in access exclusive mode');
  await busy.query('lock table public.parents in access exclusive mode');
  await Promise.all([
    client.query('alter table public.children add column note text; commit'),
    busy.query('alter table public.parents add column note text; commit'),
  ]);
  expect(warnings).toEqual([
    'the watch of public.children for user:{p.user_id} was not brought in line: deadlock detected',
  ]);
  const { rows } = await client.query(
    `select count(*)::int as notes from pg_attribute where attname = 'note' and attrelid in ('public.parents'::regclass, 'public.children'::regclass)`,
  );
  expect(rows).toEqual([{ notes: 2 }]);
});
