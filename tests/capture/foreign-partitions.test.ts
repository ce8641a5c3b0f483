/** Tables with a foreign table below them, over a real postgres_fdw: writes that reach it succeed, whether it was there first or not. */
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { connect, targetsOf } from './sessions.ts';

let database: ClonedDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await cloneDatabase();
  client = await connect(database.url);
  const { hostname, port, pathname, username, password } = new URL(database.url);
  await client.query(`create extension postgres_fdw;
    create server loop foreign data wrapper postgres_fdw options (host '${hostname}', port '${port}', dbname '${pathname.slice(1)}');
    create user mapping for current_user server loop options (user '${username}', password '${decodeURIComponent(password)}');
    create schema far;
    create table far.parts (id integer, org text, n integer);
    create table far.plain (id integer, org text);`);
});

afterAll(async () => {
  await client?.end();
  await database?.drop();
});

const captured = (statement: string) => targetsOf(client, statement);

async function problems(table: string): Promise<string[]> {
  const { rows } = await client.query<{ problem: string }>(
    'select p.problem from cache_invalidation.problems() as p join cache_invalidation.watches as w on w.id = p.watch_id where w.rel = $1::regclass',
    [table],
  );
  return rows.map(({ problem }) => problem);
}

const foreign = (name: string) =>
  `create foreign table public.${name}_f partition of public.${name} for values in ('f')
     server loop options (schema_name 'far', table_name 'parts')`;

describe.each([
  ['there before the watch', true],
  ['added after it', false],
])('a partitioned table with a foreign partition, %s', (_when, before) => {
  const name = before ? 'early' : 'late';
  beforeAll(async () => {
    await client.query(`create table public.${name} (id integer, org text, n integer) partition by list (org);
      create table public.${name}_a partition of public.${name} for values in ('a', 'b')`);
    if (before) await client.query(foreign(name));
    await client.query(`select cache_invalidation.watch('public.${name}', '${name}:{org}')`);
    if (!before) await client.query(foreign(name));
  });

  test('takes writes to both, and names their targets', async () => {
    expect(await captured(`insert into ${name} values (1, 'a', 0), (2, 'f', 0), (3, 'b', 0)`)).toEqual([
      `${name}:a`,
      `${name}:b`,
      `${name}:f`,
    ]);
    expect(await captured(`update ${name} set n = n + 1 where org in ('a', 'f')`)).toEqual([
      `${name}:a`,
      `${name}:f`,
    ]);
    expect(await captured(`delete from ${name}`)).toEqual([`${name}:a`, `${name}:b`, `${name}:f`]);
    expect(await problems(`public.${name}`)).toEqual([]);
  });
});

test('a NULL of the other server, which no NOT NULL keeps out, widens', async () => {
  await client.query(`create table public.strict (id integer, org text not null) partition by list (id);
    create foreign table public.strict_f partition of public.strict for values in (1)
      server loop options (schema_name 'far', table_name 'plain');
    select cache_invalidation.watch('public.strict', 'strict:{org}:list');
    insert into far.plain values (1, null)`);
  expect(await captured('delete from strict')).toEqual(['strict:*']);
});

test('a foreign partition is attached beside a reader, and writes to it are captured', async () => {
  await client.query(`create table public.busy (id integer, org text) partition by list (org);
    create table public.busy_a partition of public.busy for values in ('a');
    select cache_invalidation.watch('public.busy', 'busy:{org}');
    create foreign table public.busy_f (id integer, org text) server loop options (schema_name 'far', table_name 'plain')`);
  const reader = new pg.Client({ connectionString: database.url });
  await reader.connect();
  await reader.query('begin; select from public.busy');
  expect(
    await captured("alter table public.busy attach partition public.busy_f for values in ('f')"),
  ).toEqual(['busy:*']);
  await reader.end();
  expect(await captured(`insert into busy values (1, 'f')`)).toEqual(['busy:f']);
  expect(await captured(`alter table public.busy detach partition public.busy_f`)).toEqual(['busy:*']);
  expect(await captured(`insert into public.busy_f values (2, 'f')`)).toEqual([]);
  expect(await problems('public.busy')).toEqual([]);
});

describe('without event triggers', () => {
  test.each([
    ['unseen', 'partition by list (org)', "partition of public.unseen for values in ('f')"],
    ['heard', '', '() inherits (public.heard)'],
  ])(
    '%s: writes to a new foreign table below succeed, and refresh() captures all of them',
    async (name, kind, below) => {
      await client.query(`create table public.${name} (id integer, org text) ${kind};
      select cache_invalidation.watch('public.${name}', '${name}:{org}');
      alter event trigger fencepost_ddl disable;
      create foreign table public.${name}_f ${below} server loop options (schema_name 'far', table_name 'plain')`);
      await client.query(
        `insert into public.${name}_f values (1, 'f'); update public.${name} set id = id + 1`,
      );
      expect(await problems(`public.${name}`)).toEqual([
        expect.stringMatching(
          `triggers are missing or disabled: .*public.${name}_f fencepost_public_${name}_truncate`,
        ),
      ]);
      expect(
        await captured(
          `alter event trigger fencepost_ddl enable always; select cache_invalidation.keep_catalog_snapshot('{0}');
          select cache_invalidation.refresh()`,
        ),
      ).toEqual([`${name}:*`]);
      expect(await captured(`update public.${name} set id = id + 1`)).toEqual([`${name}:f`]);
      expect(await captured(`insert into public.${name}_f values (2, 'g')`)).toEqual([`${name}:g`]);
      expect(await captured(`truncate public.${name}_f`)).toEqual([`${name}:*`]);
      expect(await problems(`public.${name}`)).toEqual([]);
    },
  );
});

describe('an inheritance parent', () => {
  test('of a foreign table can be watched', async () => {
    await client.query(`create table public.heirs (id integer, org text);
      create foreign table public.heirs_f () inherits (public.heirs) server loop options (schema_name 'far', table_name 'plain');
      select cache_invalidation.watch('public.heirs', 'heir:{org}')`);
    expect(await captured(`insert into heirs_f values (1, 'f')`)).toEqual(['heir:f']);
    expect(await captured(`update heirs set org = 'g'`)).toEqual(['heir:f', 'heir:g']);
  });

  test('that is watched gets a foreign child', async () => {
    await client.query(`create table public.parents (id integer, org text);
      select cache_invalidation.watch('public.parents', 'parent:{org}')`);
    const added = `create foreign table public.parents_f () inherits (public.parents) server loop options (schema_name 'far', table_name 'plain')`;
    expect(await captured(added)).toEqual(['parent:*']);
    expect(await captured(`insert into parents values (1, 'o')`)).toEqual(['parent:o']);
    expect(await captured(`insert into parents_f values (1, 'p')`)).toEqual(['parent:p']);
    expect(await problems('public.parents')).toEqual([]);
  });
});

describe('a writer who may only insert', () => {
  const trap = `create or replace function pg_temp.run() returns integer language plpgsql as
      $$ begin insert into public.ran values (current_user); return 1; end $$;
    create or replace temporary view new_rows as select pg_temp.run() as id, 'x'::text as org;
    create or replace temporary view old_rows as select pg_temp.run() as id, 'x'::text as org;
    grant select on new_rows, old_rows to public`;

  test('runs nothing as the owner by views that are called like transition tables, whatever the triggers are', async () => {
    await client.query(`create table public.ran (who text);
      create role inserts_only;
      grant insert on public.ran to inserts_only;
      create table public.bait (id integer, org text);
      grant insert on public.bait to inserts_only;
      select cache_invalidation.watch('public.bait', 'bait:{org}');
      alter event trigger fencepost_ddl disable;
      alter event trigger fencepost_drop disable;
      create foreign table public.bait_f () inherits (public.bait) server loop options (schema_name 'far', table_name 'plain');
      select cache_invalidation.refresh()`);
    const write = `set role inserts_only; ${trap}; insert into public.bait values (1, 'o'); reset role`;
    expect(await captured(write)).toEqual(['bait:o']);
    // The foreign table goes again, and nobody has told the triggers.
    await client.query('drop foreign table public.bait_f');
    expect(await captured(write)).toEqual(['bait:o']);
    await client.query('select cache_invalidation.refresh()');
    expect(await captured(write)).toEqual(['bait:o']);
    await client.query(
      'alter event trigger fencepost_ddl enable always; alter event trigger fencepost_drop enable always',
    );
    const { rows } = await client.query('select who from public.ran');
    expect(rows).toEqual([]);
  });
});
