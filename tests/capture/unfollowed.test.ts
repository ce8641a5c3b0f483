/**
 * DDL while another session keeps ours from the declarations: it succeeds, what it may have changed is invalidated at once, problems()
 * names it, and what follows it later invalidates once more.
 */
import pg from 'pg';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

let database: ClonedDatabase;
let client: pg.Client;
let declaring: pg.Client;
let warnings: string[];

beforeEach(async () => {
  database = await cloneDatabase();
  [client, declaring] = [0, 1].map(() => new pg.Client({ connectionString: database.url })) as [
    pg.Client,
    pg.Client,
  ];
  warnings = [];
  client.on('notice', ({ severity, message }) => {
    if (severity === 'WARNING') warnings.push(message ?? '');
  });
  for (const session of [client, declaring]) await session.connect();
  await client.query(`set lock_timeout = '20ms';
    create table public.whole (id integer, code text) partition by list (id);
    create table public.part partition of public.whole for values in (1);
    insert into public.whole values (1, 'a');
    select cache_invalidation.watch('public.whole', 'whole:{code}')`);
});

afterEach(async () => {
  for (const session of [client, declaring]) await session?.end();
  await database?.drop();
});

async function captured(statement: string): Promise<string[]> {
  await client.query('delete from cache_invalidation.changes');
  await client.query(statement);
  const { rows } = await client.query<{ target: string }>(
    'select distinct target from cache_invalidation.outbox order by target',
  );
  return rows.map((row) => row.target);
}

async function errors(): Promise<string[]> {
  const { rows } = await client.query<{ problem: string }>(
    `select problem from cache_invalidation.problems() where severity = 'error'`,
  );
  return rows.map((row) => row.problem);
}

/** While another session has the declarations. */
async function unfollowed(statement: string): Promise<string[]> {
  await declaring.query('begin; lock table cache_invalidation.watches in share row exclusive mode');
  const targets = await captured(statement);
  await declaring.query('rollback');
  return targets;
}

const detach = 'alter table public.whole detach partition public.part';
const attach = 'alter table public.whole attach partition public.part for values in (1)';
const named = [expect.stringMatching(/^DDL that concerns public\.whole was not followed, at 2/)];

test('a partition that leaves: its type at once, an error, and its type again when it comes back', async () => {
  expect(await unfollowed(detach)).toEqual(['whole:*']);
  expect(warnings).toEqual([expect.stringContaining('the watches of public.whole were not brought in line')]);
  expect(await errors()).toEqual(named);
  await client.query(`update public.part set code = 'b'`);
  expect(await captured(attach)).toEqual(['whole:*']);
  expect(await errors()).toEqual([]);
});

test.each([
  ['a partition that leaves', detach],
  ['a column that is renamed', 'alter table public.whole rename column code to codes'],
  [
    'names that are exchanged and taken back',
    'alter table public.whole rename to aside; alter table aside rename to whole',
  ],
])('%s: refresh() mends it and invalidates the type', async (_kind, statement) => {
  expect(await unfollowed(statement)).toEqual(['whole:*']);
  expect(await errors()).toEqual(named);
  expect(await captured('select cache_invalidation.refresh()')).toEqual(['whole:*']);
  expect(await errors()).toEqual([]);
  expect(await captured('select cache_invalidation.refresh()')).toEqual([]);
});

test('what is rolled back is not remembered', async () => {
  expect(await unfollowed(`begin; ${detach}; rollback`)).toEqual([]);
  expect(await errors()).toEqual([]);
});

test('a statement that cannot be read: the types of all watches', async () => {
  await client.query(`create table public.other (id integer);
    select cache_invalidation.watch('public.other', 'other:{id}');
    alter function cache_invalidation.concerned_versions(oid[]) rename to concerned_versions_aside`);
  expect(await captured('alter table public.other add column note text')).toEqual(
    expect.arrayContaining(['other:*', 'whole:*']),
  );
  expect(warnings).toEqual([expect.stringContaining('Fencepost could not follow this statement')]);
  await client.query(
    'alter function cache_invalidation.concerned_versions_aside(oid[]) rename to concerned_versions',
  );
  expect(await errors()).toEqual(expect.arrayContaining(named));
  await client.query('select cache_invalidation.refresh()');
  expect(await errors()).toEqual([]);
});

test('watch() with other columns, after a rename that was not followed, waits for open writers', async () => {
  await client.query(`create table public.notes (id integer, title text, body text);
    insert into public.notes values (1, 'a', 'b');
    select cache_invalidation.watch('public.notes', 'note:{id}', columns => '{title}')`);
  await unfollowed('alter table public.notes rename to pages');
  await declaring.query(`begin; update public.pages set body = 'c'`);
  const watch = `select cache_invalidation.watch('public.pages', 'note:{id}', columns => '{title,body}')`;
  await expect(client.query(watch)).rejects.toMatchObject({ code: '55P03' });
  await declaring.query('commit');
  expect(await captured(watch)).toEqual(['note:*']);
});

test('rights on a column that end with DROP OWNED leave its watch exact', async () => {
  await client.query('create role fencepost_test_reader');
  try {
    await client.query('grant select (code) on public.whole to fencepost_test_reader');
    await client.query('drop owned by fencepost_test_reader');
    expect(await captured(`insert into public.whole values (1, 'c')`)).toEqual(['whole:c']);
  } finally {
    await client.query('drop role fencepost_test_reader');
  }
});

test('two sessions whose DDL was not followed do not wait for each other', async () => {
  await client.query(`create table public.parents (id integer primary key, user_id text, code text);
    create table public.children (id integer, parent_id integer);
    select cache_invalidation.watch('public.children', 'user:{p.user_id}', join => 'public.parents p on p.id = row.parent_id')`);
  const others = new pg.Client({ connectionString: database.url });
  await others.connect();
  try {
    await declaring.query('begin; lock table cache_invalidation.watches in share row exclusive mode');
    await others.query(
      `set lock_timeout = '20ms'; begin; alter table public.children alter column parent_id set not null`,
    );
    await client.query(
      `set statement_timeout = '5s'; alter table public.parents alter column user_id type varchar`,
    );
    await others.query('commit');
    await declaring.query('rollback');
  } finally {
    await others.end();
  }
  expect(warnings.length).toBeGreaterThan(0);
  await client.query('select cache_invalidation.refresh()');
  expect(await errors()).toEqual([]);
});
