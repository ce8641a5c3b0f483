/**
 * Columns and tables that change names with each other, as migrations do to replace one without downtime: the watch
 * follows what it was declared for, and whoever runs the migration is told, with the statements for either wish.
 */
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

let database: ClonedDatabase;
let client: pg.Client;
let notices: { severity: string; message: string; hint: string }[];

beforeAll(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url });
  client.on('notice', ({ severity = '', message = '', hint = '' }) => {
    notices.push({ severity, message, hint });
  });
  await client.connect();
});

beforeEach(async () => {
  notices = [];
  await client.query(`drop table if exists public.prices, public.prices_old cascade;
    delete from cache_invalidation.dropped_watches;
    create table public.prices (id integer primary key, code text, code_new text);
    insert into public.prices values (1, 'first', 'second');
    select cache_invalidation.watch('public.prices', 'price:{code}')`);
  notices = [];
});

afterAll(async () => {
  await client?.end();
  await database?.drop();
});

async function captured(statement: string): Promise<string[]> {
  await client.query('delete from cache_invalidation.changes');
  await client.query(statement);
  const { rows } = await client.query<{ target: string }>('select target from cache_invalidation.outbox');
  return rows.map((row) => row.target);
}

const warnings = () => notices.filter(({ severity }) => severity === 'WARNING');

/** The statements of the hint between two of its phrases. */
function remedy(hint: string, from: string, to?: string): string {
  const start = hint.indexOf(from) + from.length;
  return hint.slice(start, to === undefined ? undefined : hint.indexOf(to));
}

test('a plain rename is followed, with a notice that names the declaration as it is now', async () => {
  await client.query('alter table public.prices rename column code to name');
  expect(notices).toEqual([
    {
      severity: 'NOTICE',
      message: `the watch of public.prices follows a rename, it is now: select cache_invalidation.watch('public.prices', 'price:{name}');`,
      hint: '',
    },
  ]);
});

test.each([
  ['a table', 'alter table public.prices rename to fares', 'public.fares'],
  [
    'a table that moves to another schema',
    'create schema moved; alter table public.prices set schema moved',
    'moved.prices',
  ],
])('%s is followed, with a notice that names it as it is now', async (_kind, statement, name) => {
  await client.query(statement);
  expect(notices).toEqual([
    {
      severity: 'NOTICE',
      message: `the watch of ${name} follows a rename, it is now: select cache_invalidation.watch('${name}', 'price:{code}');`,
      hint: '',
    },
  ]);
  await client.query(`drop table ${name}`);
});

test('columns that change names in one transaction: a warning with the statements for either', async () => {
  await client.query(`begin; alter table public.prices rename column code to code_old;
    alter table public.prices rename column code_new to code; commit`);
  expect(warnings()).toHaveLength(1);
  expect(warnings()[0]?.message).toBe(
    `the watch of public.prices for 'price:{code_old}' follows the column code_old, which was called code; another column is called that now`,
  );
  expect(await captured('update public.prices set id = id')).toEqual(['price:first']);

  const hint = warnings()[0]?.hint ?? '';
  await client.query(remedy(hint, 'To watch the other one instead:', 'To keep this one:'));
  expect(await captured('update public.prices set id = id')).toEqual(['price:second']);
  notices = [];
  await client.query('alter table public.prices add column more text');
  expect(notices).toEqual([]);
});

test('keeping the column after a swap silences the warning', async () => {
  await client.query(`alter table public.prices rename column code to code_old;
    alter table public.prices rename column code_new to code`);
  await client.query(remedy(warnings()[0]?.hint ?? '', 'To keep this one:'));
  notices = [];
  await client.query('alter table public.prices add column more text');
  expect(notices).toEqual([]);
  expect(await captured('update public.prices set id = id')).toEqual(['price:first']);
});

test.each([
  'alter table public.prices_new rename to prices',
  'create table public.prices (id integer, code text)',
  `create table public.prices as select 2 as id, 'third' as code`,
])('tables that change names: %s', async (arrival) => {
  await client.query(`drop table if exists public.prices_new; create table public.prices_new (id integer, code text);
    alter table public.prices rename to prices_old`);
  expect(warnings()).toEqual([]);
  await client.query(arrival);
  expect(warnings().map(({ message }) => message)).toEqual([
    `the watch of public.prices_old for 'price:{code}' was declared when that was called public.prices, which is another table now`,
  ]);
  expect(await captured('update public.prices_old set id = id')).toEqual(['price:first']);
  await client.query(
    remedy(warnings()[0]?.hint ?? '', 'To watch the other one instead:', 'To keep this one:'),
  );
  expect(await captured(`insert into public.prices values (3, 'new')`)).toEqual(['price:new']);
  expect(await captured('update public.prices_old set id = id')).toEqual([]);
});

test('a swapped table that is dropped takes its watch along, with a warning', async () => {
  await client.query(
    `alter table public.prices rename to prices_old; create table public.prices (id integer, code text)`,
  );
  notices = [];
  await client.query('drop table public.prices_old');
  expect(warnings()).toEqual([
    {
      severity: 'WARNING',
      message: `public.prices is not watched for 'price:{code}', as the table was that had its name and was dropped`,
      hint: 'To watch it: select cache_invalidation.refresh();',
    },
  ]);
  await client.query(remedy(warnings()[0]?.hint ?? '', 'To watch it:'));
  expect(await captured(`insert into public.prices values (3, 'new')`)).toEqual(['price:new']);
});

test('a table with the name of a dropped one: a warning until it is watched', async () => {
  await client.query('drop table public.prices');
  expect(warnings()).toEqual([]);
  await client.query('create table public.prices (id integer, code text)');
  const warning = {
    severity: 'WARNING',
    message: `public.prices is not watched for 'price:{code}', as the table was that had its name and was dropped`,
    hint: 'To watch it: select cache_invalidation.refresh();',
  };
  expect(warnings()).toEqual([warning]);
  await client.query('alter table public.prices add column more text');
  expect(warnings()).toEqual([warning, warning]);
  notices = [];
  await client.query(remedy(warning.hint, 'To watch it:'));
  await client.query('alter table public.prices add column less text');
  expect(warnings()).toEqual([]);
});

test.each([
  [
    'a schema',
    'create schema next create table fares (code text); drop schema if exists live cascade; create schema live create table fares (code text)',
    'drop schema live cascade',
    'alter schema next rename to live',
  ],
  [
    'a materialized view',
    'drop schema if exists live cascade; create schema live; create materialized view live.fares as select 1',
    'drop materialized view live.fares',
    'create materialized view live.fares as select 1',
  ],
])('%s that brings the name of a dropped relation: a warning', async (_kind, prepared, drop, arrival) => {
  await client.query(`${prepared}; select cache_invalidation.watch('live.fares', 'fare:*')`);
  await client.query(drop);
  expect(warnings()).toEqual([]);
  await client.query(arrival);
  expect(warnings().map(({ message }) => message)).toEqual([
    `live.fares is not watched for 'fare:*', as the table was that had its name and was dropped`,
  ]);
  await client.query('drop schema live cascade; delete from cache_invalidation.dropped_watches');
});

test('schemas that change names', async () => {
  await client.query(`create schema live; create schema next;
    create table live.prices (code text); create table next.prices (code text);
    select cache_invalidation.watch('live.prices', 'price:{code}')`);
  await client.query('alter schema live rename to former');
  expect(warnings()).toEqual([]);
  await client.query('alter schema next rename to live');
  expect(warnings().map(({ message }) => message)).toEqual([
    `the watch of former.prices for 'price:{code}' was declared when that was called live.prices, which is another table now`,
  ]);
});

test('a materialized view that is dropped needs no word', async () => {
  await client.query(`create materialized view public.fares as select 1;
    select cache_invalidation.watch('public.fares', 'fare:*')`);
  notices = [];
  await client.query('drop materialized view public.fares');
  // Its version goes, too, once every transaction of the server that is open now has ended. The server is shared, so this one is made old.
  await client.query(`delete from cache_invalidation.changes;
    update cache_invalidation.versions set retired = '3' where target = 'fare:*';
    select cache_invalidation.watch('public.prices', 'price:{code}')`);
  const { rowCount } = await client.query("select from cache_invalidation.versions where target = 'fare:*'");
  expect(rowCount).toBe(0);
  expect(notices).toEqual([]);
});

test.each([
  'drop trigger fencepost_public_prices on public.prices',
  'alter table public.prices disable trigger all; alter table public.prices enable trigger user',
  'drop function cache_invalidation.capture_public_prices cascade',
])('a trigger that goes, or fires no longer always, is a warning at once: %s', async (statement) => {
  await client.query(statement);
  expect(warnings().at(-1)).toEqual({
    severity: 'WARNING',
    message: expect.stringMatching(
      /^triggers are missing or disabled: public\.prices fencepost_public_prices/,
    ),
    hint: 'To capture again: select cache_invalidation.refresh();',
  });
  await client.query(remedy(warnings()[0]?.hint ?? '', 'To capture again:'));
  notices = [];
  await client.query('alter table public.prices add column more text');
  expect(notices).toEqual([]);
  expect(await captured('update public.prices set id = id')).toEqual(['price:first']);
});
