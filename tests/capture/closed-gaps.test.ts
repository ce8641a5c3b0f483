/**
 * Gaps that opened and closed without anybody looking: problems() names each until refresh(), or the statement that closed it has
 * invalidated the type itself. What changes the same catalog rows and is no gap is silent.
 */
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

let database: ClonedDatabase;
let client: pg.Client;

beforeEach(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await client.query(`
    create sequence public.numbers;
    create table public.prices (id integer primary key, code text, price integer default nextval('numbers'));
    create table public.parts (id integer, code text) partition by list (id);
    create table public.part partition of public.parts for values in (1);
    create table public.heirs (id integer, code text);
    create table public.heir () inherits (public.heirs);
    create materialized view public.report as select count(*) as number from public.prices;
    create unique index on public.report (number);
    insert into public.prices values (1, 'a', 1);
    insert into public.parts values (1, 'a');
    insert into public.heir values (1, 'a');
    select cache_invalidation.watch('public.prices', 'price:{code}');
    select cache_invalidation.watch('public.parts', 'part:{code}');
    select cache_invalidation.watch('public.heirs', 'heir:{code}');
    select cache_invalidation.watch('public.report', 'report:*')`);
});

afterEach(async () => {
  await client?.end();
  await database?.drop();
});

/** Runs each statement in a transaction of its own (VACUUM allows no other), and gives the targets of the last one. */
async function captured(...statements: string[]): Promise<string[]> {
  for (const statement of statements) {
    await client.query('delete from cache_invalidation.changes');
    await client.query(statement);
  }
  const { rows } = await client.query<{ target: string }>(
    'select distinct target from cache_invalidation.outbox order by target',
  );
  return rows.map((row) => row.target);
}

async function problems(): Promise<string[]> {
  const { rows } = await client.query<{ problem: string }>(
    `select severity || ': ' || problem as problem from cache_invalidation.problems()`,
  );
  return rows.map((row) => row.problem);
}

const refresh = 'select cache_invalidation.refresh()';
const everything = ['heir:*', 'part:*', 'price:*', 'report:*'];

const changed = (table: string) =>
  `error: triggers, partitions or columns of public.${table} were changed, and nothing followed it: writes may have been missed`;

/** Statements of a role that fires no event trigger. */
function unseen(...statements: string[]): string[] {
  return ['set event_triggers = off', ...statements, 'reset event_triggers'];
}

const detach = 'alter table public.parts detach partition public.part';
const attach = 'alter table public.parts attach partition public.part for values in (1)';
const createTrigger = `create trigger fencepost_public_prices after insert or update or delete on public.prices
  for each row execute function cache_invalidation.capture_public_prices()`;
const enableTrigger = 'alter table public.prices enable always trigger fencepost_public_prices';

test.each([
  [
    'rows that are rewritten',
    changed('prices'),
    ['price:*'],
    unseen('alter table public.prices alter price type integer using price * 2'),
  ],
  [
    'a partition that was detached',
    changed('parts'),
    ['part:*'],
    unseen(detach, `update public.part set code = 'b'`, attach),
  ],
  ['a partition that was dropped', changed('parts'), ['part:*'], unseen('drop table public.part')],
  ['a materialized view', changed('report'), ['report:*'], unseen('refresh materialized view public.report')],
  [
    'a trigger that had another name',
    changed('prices'),
    ['price:*'],
    [
      'alter trigger fencepost_public_prices on public.prices rename to other',
      'alter trigger other on public.prices rename to fencepost_public_prices',
    ],
  ],
  [
    'a function that had other rights',
    'error: the capture function of public.prices is missing or out of date',
    ['price:*'],
    ['invoker', 'definer'].map(
      (rights) => `alter function cache_invalidation.capture_public_prices() security ${rights}`,
    ),
  ],
  [
    'a child that nothing captured, and that is none any more',
    changed('heirs'),
    ['heir:*'],
    [
      'drop trigger fencepost_public_heirs on public.heir',
      'drop trigger fencepost_public_heirs_truncate on public.heir',
      `update public.heir set code = 'b'`,
      'alter table public.heir no inherit public.heirs',
    ],
  ],
])('%s, and that nobody saw: an error until refresh()', async (_, problem, types, statements) => {
  expect(await captured(...statements)).toEqual([]);
  expect(await problems()).toEqual([problem]);
  expect(await captured(refresh)).toEqual(types);
  expect(await problems()).toEqual([]);
  expect(await captured(refresh)).toEqual([]);
});

test.each([
  [
    'a trigger that is enabled again',
    ['price:*'],
    [
      'alter table public.prices disable trigger fencepost_public_prices',
      'update public.prices set price = 2',
      enableTrigger,
    ],
  ],
  [
    'a column of another type, for which no row is rewritten',
    ['price:*'],
    ['alter table public.prices alter price drop default', 'alter table public.prices alter price type oid'],
  ],
  [
    'a trigger that is created again',
    ['price:*'],
    [
      'drop trigger fencepost_public_prices on public.prices',
      'update public.prices set price = 2',
      `${createTrigger}; ${enableTrigger}`,
    ],
  ],
  [
    'a partition without its TRUNCATE trigger, which is made again with the next DDL',
    ['part:*'],
    [
      'drop trigger fencepost_public_parts_truncate on public.part',
      'truncate public.part',
      'alter table public.parts add column more text',
    ],
  ],
  [
    'a partition that was emptied unseen, and leaves',
    ['part:*'],
    ['alter table public.part disable trigger user', 'truncate public.part', detach],
  ],
  [
    'rows that were rewritten unseen, before DDL that is seen',
    ['price:*'],
    [
      ...unseen('alter table public.prices alter price type integer using price * 2'),
      'alter table public.prices add column more text',
    ],
  ],
])('%s: invalidates at once', async (_, types, statements) => {
  expect(await captured(...statements)).toEqual(types);
  expect(await problems()).toEqual([]);
});

test.each([
  [
    'a partition',
    ['part:*'],
    ['alter table public.part disable trigger fencepost_public_parts_truncate', 'truncate public.part'],
  ],
  [
    'an inheritance child',
    ['heir:*'],
    ['alter table public.heir disable trigger user', 'delete from public.heir', 'vacuum public.heir'],
  ],
])(
  '%s that was emptied while its trigger was disabled: refresh() invalidates, without rows',
  async (_, types, statements) => {
    await captured(...statements);
    expect(await captured(refresh)).toEqual(types);
    expect(await problems()).toEqual([]);
  },
);

const closed = 'error: event triggers were missing, disabled or changed, and DDL may not have been seen';
test('event triggers that were disabled: an error until refresh(), which invalidates everything', async () => {
  await captured(
    'alter event trigger fencepost_ddl disable',
    'refresh materialized view concurrently public.report',
    'alter event trigger fencepost_ddl enable always',
  );
  expect(await problems()).toEqual([closed]);
  expect(await captured(refresh)).toEqual(expect.arrayContaining(everything));
  expect(await problems()).toEqual([]);
});

test('event triggers for replicas alone see nothing', async () => {
  await captured(
    'alter event trigger fencepost_ddl enable replica',
    'refresh materialized view concurrently public.report',
  );
  expect(await problems()).toEqual([
    expect.stringMatching(/^error: nothing sees when public\.report is refreshed/),
    expect.stringMatching(/^warning: DDL is not seen always/),
  ]);
  expect(await captured(refresh)).toEqual(expect.arrayContaining(everything));
});

test('an event trigger of our name for other statements is none of ours', async () => {
  await captured(
    'drop event trigger fencepost_ddl',
    `create event trigger fencepost_ddl on ddl_command_end when tag in ('CREATE VIEW') execute function cache_invalidation.follow_ddl()`,
    'alter event trigger fencepost_ddl enable always',
  );
  expect(await problems()).toEqual([
    expect.stringMatching(/^error: nothing sees when public\.report is refreshed/),
    expect.stringMatching(/^notice: there are no event triggers \(fencepost_ddl\)/),
  ]);
  expect(await captured('select cache_invalidation.create_event_triggers()')).toEqual(
    expect.arrayContaining(everything),
  );
  expect(await problems()).toEqual([]);
  expect(await captured('select cache_invalidation.create_event_triggers()', refresh)).toEqual([]);
});

test.each([
  [
    'a setting',
    'set cache_invalidation.refreshing = on; alter table public.prices alter price type integer using price * 2',
  ],
  [
    'a name in the statement',
    `do $$ begin execute 'alter table public.prices alter price type integer using price * 2 -- cache_invalidation.bring_in_line('; end $$`,
  ],
  [
    'a function of that name',
    `create function public."cache_invalidation.bring_in_line("() returns void language plpgsql as
      'begin alter table public.prices alter price type integer using price * 2; end'; select public."cache_invalidation.bring_in_line("()`,
  ],
])('no role hides its DDL: %s', async (_, statement) => {
  expect(await captured(statement)).toEqual(['price:*']);
});

test.each([
  'alter table public.prices add column more text',
  'alter table public.prices alter price set not null, alter price set statistics 10',
  'drop sequence public.numbers cascade',
  'grant select (price) on public.prices to public',
  'grant select on public.prices, public.parts, public.report to public',
  'alter table public.prices owner to pg_database_owner',
  'create index on public.prices (price)',
  'reindex table public.prices',
  'vacuum full public.prices',
  'cluster public.prices using prices_pkey',
  'analyze',
  'create table public.part_2 partition of public.parts for values in (2)',
  'create table public.part_2 (id integer, code text); alter table public.parts attach partition public.part_2 for values in (2)',
  'create table public.heir_2 () inherits (public.heirs)',
  'create table public.items (price_id integer references public.prices)',
  'begin; savepoint one; alter table public.prices add column more text; savepoint two; alter table public.prices add column again text; commit',
  'begin; savepoint one; create table public.part_2 partition of public.parts for values in (2); rollback to one; commit',
  'select cache_invalidation.create_event_triggers()',
])('no gap: %s', async (statement) => {
  expect(await captured(statement)).toEqual([]);
  expect(await problems()).toEqual([]);
  expect(await captured(refresh)).toEqual([]);
});

test.each([
  [
    'a partition with rows that comes',
    'create table public.part_2 as select 2 as id, code from public.part; alter table public.parts attach partition public.part_2 for values in (2)',
    ['part:*'],
  ],
  [
    'a partition that is detached without a lock',
    'alter table public.parts detach partition public.part concurrently',
    ['part:*'],
  ],
  ['a materialized view that is refreshed', 'refresh materialized view public.report', ['report:*']],
])('%s is followed, and leaves no problem', async (_, statement, types) => {
  expect(await captured(statement)).toEqual(types);
  expect(await problems()).toEqual([]);
  expect(await captured(refresh)).toEqual([]);
});
