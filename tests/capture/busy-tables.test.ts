/**
 * Tables that other sessions hold. watch(), unwatch() and refresh() wait for no table unless they make or drop its triggers, and then give up,
 * because all readers and writers would wait behind them. Writes wait for no table but their own. A DDL statement never fails because
 * Fencepost did not get a lock, nor because two statements wait for each other.
 */
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { targetsIn, twoSessions } from './sessions.ts';

let database: ClonedDatabase;
let client: pg.Client;
let busy: pg.Client;
let warnings: string[];

beforeAll(async () => {
  database = await cloneDatabase();
});

afterAll(async () => {
  await database?.drop();
});

beforeEach(async () => {
  ({ client, other: busy, warnings } = await twoSessions(database.url));
  await client.query(`drop table if exists public.children, public.parents, public.items;
    delete from cache_invalidation.dropped_watches;
    create table public.parents (id integer primary key, user_id text);
    create table public.children (id integer primary key, parent_id integer);
    create table public.items (id integer primary key);
    insert into public.parents values (1, 'u');
    select cache_invalidation.watch('public.parents', 'parent:{user_id}');
    select cache_invalidation.watch('public.children', 'user:{p.user_id}', join => 'public.parents p on p.id = row.parent_id')`);
  warnings.length = 0;
});

afterEach(async () => {
  await busy?.end();
  await client?.end();
});

const readingParents = 'begin; select from public.parents';
const holdingParents = 'begin; lock table public.parents in access exclusive mode';
const watchItems = `select cache_invalidation.watch('public.items', 'item:{id}')`;

const targets = () => targetsIn(client);

const busyMessage = (table: string, limit: string) => ({
  code: '55P03',
  message: `the table public.${table} is busy: no lock within ${limit}`,
  hint: expect.stringContaining('Nothing was changed'),
});

test('without a lock_timeout of the session: unwatch() of a table that is read gives up after half of deadlock_timeout', async () => {
  await client.query(`select cache_invalidation.unwatch('public.children')`);
  await busy.query(readingParents);
  await expect(client.query(`select cache_invalidation.unwatch('public.parents')`)).rejects.toMatchObject(
    busyMessage('parents', '500ms'),
  );
  const { rows } = await client.query('show lock_timeout');
  expect(rows).toEqual([{ lock_timeout: '0' }]);
});

test.each([
  {
    name: 'unwatch() of a table that is read',
    held: 'begin; select from public.items',
    prepared: watchItems,
    call: `select cache_invalidation.unwatch('public.items')`,
  },
  {
    name: 'watch() of a table that is held, its first',
    held: 'begin; lock table public.items in access exclusive mode',
    prepared: '',
    call: watchItems,
  },
  {
    name: 'refresh() that makes triggers',
    held: 'begin; lock table public.items in access exclusive mode',
    prepared: `${watchItems}; alter table public.items disable trigger user`,
    call: 'select cache_invalidation.refresh()',
  },
])(
  '$name gives up after the session’s lock_timeout, changes nothing and leaves the setting',
  async ({ held, prepared, call }) => {
    await client.query(prepared);
    const declared = async () =>
      (
        await client.query(
          `select (select count(*)::int from cache_invalidation.watches) as watches, (select count(*)::int from pg_trigger
             where tgname like 'fencepost%' and tgenabled = 'A') as triggers, current_setting('lock_timeout') as timeout`,
        )
      ).rows;
    await client.query(`set lock_timeout = '20ms'`);
    const before = await declared();
    await busy.query(held);
    await expect(client.query(call)).rejects.toMatchObject(busyMessage('items', '20ms'));
    await busy.query('rollback');
    expect(await declared()).toEqual(before);
    await client.query(call);
    const { rows: after } = await client.query('show lock_timeout');
    expect(after).toEqual([{ lock_timeout: '20ms' }]);
  },
);

test.each([
  { name: 'watch() again', call: `select cache_invalidation.watch('public.parents', 'parent:{user_id}')` },
  {
    name: 'watch() of another target',
    call: `select cache_invalidation.watch('public.parents', 'other:{user_id}')`,
  },
  {
    name: 'watch() of a child that joins the table',
    call: `select cache_invalidation.watch('public.children', 'other:{p.user_id}', join => 'public.parents p on p.id = row.parent_id')`,
  },
  {
    name: 'unwatch() of one of two targets',
    call: `select cache_invalidation.unwatch('public.parents', 'parent:{user_id}')`,
  },
  { name: 'refresh() with nothing to do', call: 'select cache_invalidation.refresh()' },
  { name: 'problems()', call: 'select * from cache_invalidation.problems()' },
])('$name waits for nobody who holds the table', async ({ call }) => {
  await busy.query(holdingParents);
  await client.query(`set lock_timeout = '20ms'`);
  await client.query(call);
  expect(warnings).toEqual([]);
});

test('without a lock_timeout of the session: watch() of a table that is held gives up after 3 s at most', async () => {
  await client.query(`set deadlock_timeout = '1min'`);
  await busy.query('begin; lock table public.items in access exclusive mode');
  await expect(client.query(watchItems)).rejects.toMatchObject(busyMessage('items', '3s'));
});

test('watch() while another session declares gives up', async () => {
  await busy.query(`begin; ${watchItems}`);
  await client.query(`set lock_timeout = '20ms'`);
  await expect(client.query(watchItems)).rejects.toMatchObject({
    code: '55P03',
    message: 'another session is changing declarations: no lock within 20ms',
  });
});

test('problems() names what is wrong with tables that are held, and keeps no lock on any', async () => {
  await client.query('alter table public.children disable trigger user');
  await busy.query(`${holdingParents}; lock table public.children in access exclusive mode`);
  await client.query(`set lock_timeout = '20ms'; begin`);
  const { rows } = await client.query('select problem from cache_invalidation.problems()');
  expect(rows).toEqual([
    { problem: expect.stringContaining('triggers are missing or disabled: public.children') },
  ]);
  const { rows: locks } = await client.query(
    `select relation::regclass::text from pg_locks where pid = pg_backend_pid() and relation in ('public.parents'::regclass, 'public.children'::regclass)`,
  );
  expect(locks).toEqual([]);
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
  await client.query('delete from cache_invalidation.changes; truncate public.parted_2');
  const { rows } = await client.query('select op, target from cache_invalidation.outbox');
  expect(rows).toEqual([{ op: 't', target: 'parted:*' }]);
});

test('a child is written while the joined table is held, without waiting; the claim does not wait either', async () => {
  await busy.query(holdingParents);
  await client.query(`set lock_timeout = '20ms'; delete from cache_invalidation.changes;
    insert into public.children values (1, 1); update public.children set id = 2; delete from public.children`);
  expect(await targets()).toEqual(['user:*']);
  const { rows } = await client.query('select targets, errors from cache_invalidation.claim()');
  expect(rows).toEqual([{ targets: ['user:*'], errors: ['55P03'] }]);
  await busy.query('rollback');
  expect(await targets()).toEqual(['user:u']);
});

test('DDL of a child while the joined table is held: it succeeds at once, and the watch follows the rename', async () => {
  await busy.query(holdingParents);
  await client.query(`set lock_timeout = '20ms'`);
  await client.query('alter table public.children rename column parent_id to owner');
  expect(warnings).toEqual([]);
  await busy.query('rollback');
  await client.query('delete from cache_invalidation.changes; insert into public.children values (1, 1)');
  expect(await targets()).toEqual(['user:u']);
});

test.each([
  { name: 'half a second together', timeout: '0', first: /^\d{3}$/ },
  { name: 'no longer than the session’s lock_timeout each', timeout: '20ms', first: /^20$/ },
])(
  'DDL that concerns tables which others hold waits $name, and succeeds with warnings',
  async ({ timeout, first }) => {
    // What is left over below these tables has to go: for that their lock is needed.
    await client.query(`select cache_invalidation.watch('public.items', 'item:{p.user_id}', join => 'public.parents p on p.id = row.id');
    alter table public.items disable trigger user; alter table public.children disable trigger user;
    drop trigger fencepost_public_children on public.children; drop trigger fencepost_public_items on public.items`);
    warnings.length = 0;
    await busy.query('begin; lock table public.items, public.children in access exclusive mode');
    await client.query(`set lock_timeout = '${timeout}'`);
    await client.query('alter table public.parents alter column user_id type varchar');
    const limits = warnings.map((warning) => /busy: no lock within (\d+)ms$/.exec(warning)?.[1] ?? '');
    expect(limits).toEqual([expect.stringMatching(first), timeout === '0' ? '1' : '20']);
    expect(Number(limits[0])).toBeLessThanOrEqual(500);
    const { rows } = await client.query('show lock_timeout');
    expect(rows).toEqual([{ lock_timeout: timeout }]);
  },
);

test('DDL that fails leaves the transaction’s lock_timeout, as DDL that only warns does', async () => {
  await client.query(
    `alter table public.children disable trigger user; drop trigger fencepost_public_children on public.children`,
  );
  await client.query(`begin; set local lock_timeout = '20ms'; savepoint before`);
  await expect(client.query('alter table public.parents drop column missing')).rejects.toMatchObject({
    code: '42703',
  });
  await client.query('rollback to savepoint before');
  warnings.length = 0;
  await busy.query('begin; lock table public.children in access exclusive mode');
  await client.query('alter table public.parents alter column user_id type varchar');
  expect(warnings).toEqual([expect.stringContaining('no lock within 20ms')]);
  const { rows } = await client.query('show lock_timeout');
  expect(rows).toEqual([{ lock_timeout: '20ms' }]);
});

test('DDL while another session declares: it succeeds with a warning, widens, and refresh() makes it exact', async () => {
  await busy.query(`begin; ${watchItems}`);
  await client.query(`set lock_timeout = '20ms'; alter table public.parents rename column user_id to owner`);
  expect(warnings).toEqual(
    Array(2).fill(
      expect.stringMatching(
        /^the watches of public\.(parents|children) were not brought in line: .*no lock within 20ms/,
      ),
    ),
  );
  await busy.query('rollback');
  await client.query('delete from cache_invalidation.changes; insert into public.children values (1, 1)');
  expect(await targets()).toEqual(['user:*']);
  await client.query('select cache_invalidation.refresh(); delete from cache_invalidation.changes');
  await client.query(`update public.children set id = 2; update public.parents set owner = 'v'`);
  expect(await targets()).toEqual(['parent:u', 'parent:v', 'user:u', 'user:v']);
});

test('two migrations of a child and its parent, each holding its own table: both succeed, and nobody waits', async () => {
  for (const session of [client, busy]) await session.query(`set lock_timeout = '5s'; begin`);
  await client.query('lock table public.children in access exclusive mode');
  await busy.query('lock table public.parents in access exclusive mode');
  await client.query('alter table public.children add column note text');
  await busy.query('alter table public.parents add column note text');
  await client.query('alter table public.children drop column note');
  await busy.query('alter table public.parents drop column note; commit');
  await client.query('commit');
  expect(warnings).toEqual([]);
});

describe('a migration whose locks two others want', () => {
  const rename = 'alter table public.parents rename column user_id to owner';

  beforeEach(async () => {
    // A migration that changed a watched table keeps our lock on the declarations until it ends.
    await client.query(watchItems);
    await busy.query('begin; alter table public.items rename column id to number');
    warnings.length = 0;
  });

  test('does not wait for ours while another waits for its own: that one would be ended as a deadlock', async () => {
    await client.query('begin; lock table public.parents in access exclusive mode');
    // Between two and half a second it would find that each waits for the other.
    await busy.query(`set local deadlock_timeout = '300ms'`);
    const blocked = busy.query('alter table public.parents add column note text; commit');
    for (;;) {
      const { rowCount } = await client.query(
        `select from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())`,
      );
      if (rowCount) break;
    }
    await client.query(rename);
    expect(warnings).toEqual(Array(2).fill(expect.stringContaining('no lock within 1ms')));
    await client.query('commit');
    await blocked;
  });

  test.each(['statement_timeout', 'transaction_timeout', 'deadlock_timeout'])(
    'waits less than %s',
    async (setting) => {
      await client.query(`set ${setting} = '900ms'`);
      await client.query(rename);
      const [limit] = warnings.map((warning) => Number(/no lock within (\d+)ms$/.exec(warning)?.[1]));
      expect(limit).toBeLessThanOrEqual(450);
      expect(limit).toBeGreaterThan(1);
    },
  );
});
