/**
 * Writers never wait and never fail because of Fencepost, and nobody's DDL does: while migrations change the tables that are written, when
 * somebody else owns a partition, and when a partition is detached beside open transactions.
 */
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { connect, targetsOf, twoSessions } from './sessions.ts';

let database: ClonedDatabase;
let client: pg.Client;
let other: pg.Client;
let warnings: string[];

beforeAll(async () => {
  database = await cloneDatabase();
});

beforeEach(async () => {
  ({ client, other, warnings } = await twoSessions(database.url));
});

afterEach(async () => {
  await client?.end();
  await other?.end();
});

afterAll(async () => {
  await database?.drop();
});

const captured = (statement: string) => targetsOf(client, statement);

/** Resolves when this session waits for a lock of another one. */
async function waiting(session: pg.Client & { processID?: number }): Promise<void> {
  for (;;) {
    const { rowCount } = await client.query(
      `select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'`,
      [session.processID],
    );
    if (rowCount === 1) return;
  }
}

describe('migrations under load', () => {
  beforeEach(async () => {
    await client.query(`drop table if exists public.items, public.owners, public.people cascade; delete from cache_invalidation.dropped_watches;
      create table public.owners (id integer primary key, user_id text, n integer default 0);
      create table public.items (id integer primary key, org_id text, owner_id integer, n integer default 0);
      insert into public.owners select i, 'u' || i from generate_series(1, 4) as i;
      insert into public.items select i, 'o' || i, i from generate_series(1, 4) as i;
      select cache_invalidation.watch('public.items', 'item:{org_id}');
      select cache_invalidation.watch('public.items', 'user:{o.user_id}', join => 'public.owners o on o.id = row.owner_id');
      truncate cache_invalidation.changes`);
  });

  test.each([
    ['renames of columns', ['rename column org_id to org', 'rename column org to org_id']],
    [
      'a needed column that goes and comes back',
      ['drop column org_id', `add column org_id text default 'o'`],
    ],
    [
      'types',
      [
        'alter column org_id type varchar(9)',
        'alter column org_id type jsonb using to_jsonb(org_id)',
        `alter column org_id type text using 'o'`,
      ],
    ],
    ['a column that nobody needs', ['add column note text', 'drop column note']],
    ['constraints', ['alter column org_id set not null', 'alter column org_id drop not null']],
    [
      'triggers',
      [
        'disable trigger user',
        'enable always trigger fencepost_public_items',
        'enable always trigger fencepost_public_items_truncate',
      ],
    ],
  ])('%s: no write fails, and each that committed is in the outbox', async (name, steps) => {
    const writers = await Promise.all(
      [1, 2, 3, 4].map(async (id) => ({ id, session: await connect(database.url), writes: 0 })),
    );
    let migrating = true;
    const running = writers.map(async (writer) => {
      while (migrating || writer.writes < 5) {
        await writer.session.query('update public.items set n = n + 1 where id = $1', [writer.id]);
        writer.writes += 1;
      }
    });
    for (let round = 0; round < 5; round += 1) {
      for (const step of steps) await client.query(`alter table public.items ${step}`);
    }
    migrating = false;
    await Promise.all(running);
    for (const { session } of writers) await session.end();
    const writes = writers.reduce((sum, writer) => sum + writer.writes, 0);
    const { rows } = await client.query(
      `select count(*)::int as writes from cache_invalidation.changes where version is not null`,
    );
    // What a disabled trigger left out is said, and invalidated when it is enabled again.
    if (name === 'triggers') expect(rows[0]?.writes).toBeLessThanOrEqual(writes);
    else expect(rows).toEqual([{ writes }]);
    await client.query('select cache_invalidation.refresh()');
    expect(await captured('update public.items set n = 0 where id = 1')).toEqual([
      expect.stringMatching(/^item:o1?$/),
      'user:u1',
    ]);
    const { rows: problems } = await client.query('select * from cache_invalidation.problems()');
    expect(problems).toEqual([]);
  });

  test('of the joined table: renamed, changed and dropped while its child is written', async () => {
    let migrating = true;
    let writes = 0;
    const running = (async () => {
      while (migrating || writes < 5) {
        await other.query('update public.items set n = n + 1 where id = 1');
        writes += 1;
      }
    })();
    for (const step of [
      'alter table public.owners rename column user_id to name',
      'alter table public.owners rename to people',
      'alter table public.people drop column name',
      'alter table public.people add column name text',
      'alter table public.people alter column id type bigint',
      'drop table public.people',
    ])
      await client.query(step);
    migrating = false;
    await running;
    const { rows } = await client.query(
      'select count(*)::int as writes from cache_invalidation.changes where version is not null',
    );
    expect(rows).toEqual([{ writes }]);
    expect(await captured('update public.items set n = 0 where id = 1')).toEqual(['item:o1', 'user:*']);
  });

  test('a migration that locks the parent, then the child, and a writer between: no deadlock, and the writer does not wait', async () => {
    await other.query(`begin; update public.items set n = 1 where id = 1`);
    const migration = await connect(database.url);
    await migration.query(
      `set deadlock_timeout = '10ms'; begin; lock table public.owners in access exclusive mode`,
    );
    const locked = migration.query('lock table public.items in access exclusive mode');
    await waiting(migration);
    await other.query(`set lock_timeout = '1ms'; update public.items set n = 2 where id = 2; commit`);
    await locked;
    await migration.query('alter table public.items add column note text; commit');
    await migration.end();
    const { rows } = await client.query(
      'select distinct target from cache_invalidation.outbox order by target',
    );
    expect(rows.map(({ target }) => target)).toEqual(['item:o1', 'item:o2', 'user:u1', 'user:u2']);
  });
});

test('two watch() in one transaction, and a writer that uses both tables in the other order: the migration gives way, not the writer', async () => {
  await client.query(`create table public.firsts (id integer); create table public.seconds (id integer);
    insert into public.firsts values (1); insert into public.seconds values (1)`);
  const migration = await connect(database.url);
  for (const session of [migration, other]) await session.query(`set deadlock_timeout = '5s'; begin`);
  await migration.query(`select cache_invalidation.watch('public.firsts', 'first:{id}')`);
  await other.query('update public.seconds set id = 2');
  const written = other.query('update public.firsts set id = 2; commit');
  await waiting(other);
  await expect(
    migration.query(`select cache_invalidation.watch('public.seconds', 'second:{id}')`),
  ).rejects.toMatchObject({ message: 'the table public.seconds is busy: no lock within 2500ms' });
  await migration.end();
  await written;
});

describe('a partition of another owner than the capture function’s', () => {
  beforeAll(async () => {
    const superuser = await connect(database.url);
    await superuser.query(`do $$ begin create role fencepost_test_maker; exception when duplicate_object then null; end $$;
      grant create on schema public to fencepost_test_maker;
      create table public.made (id integer, org_id text) partition by list (id);
      create table public.made_1 partition of public.made for values in (1);
      create table public.heirs (id integer, org_id text);
      select cache_invalidation.watch('public.made', 'made:{org_id}');
      select cache_invalidation.watch('public.heirs', 'heir:{org_id}');
      alter table public.made owner to fencepost_test_maker; alter table public.made_1 owner to fencepost_test_maker;
      alter table public.heirs owner to fencepost_test_maker`);
    await superuser.end();
  });

  afterAll(async () => {
    const superuser = await connect(database.url);
    await superuser.query('drop owned by fencepost_test_maker cascade; drop role fencepost_test_maker');
    await superuser.end();
  });

  afterEach(async () => {
    await client.query(
      'reset role; alter event trigger fencepost_ddl enable always; select cache_invalidation.refresh()',
    );
  });

  test.each([
    ['with event triggers', ''],
    ['without event triggers', 'alter event trigger fencepost_ddl disable;'],
  ])('is created, attached, written, detached and dropped: %s', async (_name, prepared) => {
    const asMaker = (statement: string) => `set role fencepost_test_maker; ${statement}; reset role`;
    await client.query(prepared);
    await client.query(
      asMaker(`create table public.made_2 partition of public.made for values in (2);
        create table public.made_3 (id integer, org_id text);
        alter table public.made attach partition public.made_3 for values in (3);
        create table public.heir () inherits (public.heirs)`),
    );
    expect(await captured(asMaker(`insert into public.made values (2, 'a'), (3, 'b')`))).toEqual([
      'made:a',
      'made:b',
    ]);
    const { rows } = await client.query(
      `select distinct split_part(problem, ':', 1) as problem from cache_invalidation.problems() where severity = 'error'`,
    );
    expect(rows).toEqual(prepared === '' ? [] : [{ problem: 'triggers are missing or disabled' }]);
    await client.query('select cache_invalidation.refresh()');
    expect(
      await captured(asMaker(`insert into public.heir values (1, 'h'); truncate public.made_3`)),
    ).toEqual(['heir:h', 'made:*']);
    expect(await captured(asMaker('alter table public.made detach partition public.made_2'))).toEqual(
      prepared === '' ? ['made:*'] : [],
    );
    const { rows: types } = await client.query<{ target: string }>(
      'select distinct cache_invalidation.type_wildcard(target) as target from cache_invalidation.watches order by target',
    );
    expect(await captured('select cache_invalidation.refresh()')).toEqual(
      prepared === '' ? [] : types.map(({ target }) => target),
    );
    await client.query(asMaker('drop table public.made_2, public.made_3, public.heir'));
    expect(warnings).toEqual([]);
  });
});

test('DETACH CONCURRENTLY that hangs is an error, because its rows are gone for readers, and is seen when it ends', async () => {
  await client.query(`create table public.whole (id integer, org_id text) partition by list (id);
    create table public.whole_1 partition of public.whole for values in (1);
    create table public.whole_2 partition of public.whole for values in (2);
    insert into public.whole values (1, 'a'), (2, 'b');
    select cache_invalidation.watch('public.whole', 'whole:{org_id}')`);
  const reader = await connect(database.url);
  await reader.query('begin; select from public.whole');
  const detaching = connect(database.url).then(async (session) => {
    const ended = expect(
      session.query('alter table public.whole detach partition public.whole_1 concurrently'),
    ).rejects.toMatchObject({ code: '57014' });
    await waiting(session);
    await client.query('select pg_cancel_backend($1)', [(session as { processID?: number }).processID]);
    await ended;
    await session.end();
  });
  await detaching;
  await reader.end();
  const problems = async () =>
    (await client.query('select problem, remedy, severity from cache_invalidation.problems()')).rows;
  expect(await problems()).toEqual([
    expect.objectContaining({
      problem: expect.stringMatching(/^triggers, partitions or columns of public\.whole were changed/),
      severity: 'error',
    }),
    {
      problem: 'DETACH CONCURRENTLY of public.whole_1 from public.whole has not ended',
      remedy: 'alter table public.whole detach partition public.whole_1 finalize;',
      severity: 'notice',
    },
  ]);
  expect(await captured(`insert into public.whole_1 values (1, 'c')`)).toEqual(['whole:c']);
  expect(await captured('alter table public.whole detach partition public.whole_1 finalize')).toEqual([
    'whole:*',
  ]);
  expect(await problems()).toEqual([]);
  // One that ends by itself.
  expect(await captured('alter table public.whole detach partition public.whole_2 concurrently')).toEqual([
    'whole:*',
  ]);
  expect(await captured(`insert into public.whole_2 values (2, 'd')`)).toEqual([]);
  expect(await problems()).toEqual([]);
});

// Each statement is a transaction of its own: what was attached has other catalog rows now, which only another transaction tells.
test('a watched partition is followed when it is attached to an unwatched table, and detached', async () => {
  await client.query(`create table public.unwatched (id integer, org_id text) partition by list (id);
    create table public.part (id integer, org_id text); select cache_invalidation.watch('public.part', 'part:{org_id}')`);
  for (const change of ['attach partition public.part for values in (1)', 'detach partition public.part']) {
    await client.query(`alter table public.unwatched ${change}`);
    expect(await captured(`insert into public.part values (1, 'a')`)).toEqual(['part:a']);
    expect((await client.query('select * from cache_invalidation.problems()')).rows).toEqual([]);
  }
});
