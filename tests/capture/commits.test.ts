/** Changes that show only across transactions and sessions: COPY, bulk loads, PREPARE TRANSACTION, deferred constraints, replication. */
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { startPostgres } from '../../local/parts/postgres.ts';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

let database: ClonedDatabase;
let client: pg.Client;
let other: pg.Client;

beforeAll(async () => {
  database = await cloneDatabase();
  [client, other] = await Promise.all([connect(database.url), connect(database.url)]);
  await client.query(`create table public.rows (id integer primary key, org_id text, used integer default 0);
    select cache_invalidation.watch('public.rows', 'row:{org_id}:*')`);
});

beforeEach(async () => {
  await client.query('truncate public.rows cascade; delete from cache_invalidation.changes');
});

afterAll(async () => {
  await client?.end();
  await other?.end();
  await database?.drop();
});

async function connect(url: string): Promise<pg.Client> {
  const connected = new pg.Client({ connectionString: url });
  await connected.connect();
  return connected;
}

async function captured(from: pg.Client = other): Promise<string[]> {
  const { rows } = await from.query<{ line: string }>(
    `select op::text || ' ' || target as line from cache_invalidation.outbox order by target, op`,
  );
  return rows.map((row) => row.line);
}

test('COPY FROM', async () => {
  await client.query(`copy public.rows from program 'printf "1\\ta\\t0\\n2\\tb\\t0\\n3\\tb\\t0\\n"'`);
  expect(await captured()).toEqual(['i row:a:*', 'i row:b:*']);
});

test('200 000 rows in one statement, with one target and with 200 000', async () => {
  await client.query(`insert into rows select i, 'one' from generate_series(1, 200000) as i`);
  expect(await captured()).toEqual(['i row:one:*']);
  await client.query(`delete from cache_invalidation.changes; update rows set org_id = 'o' || id`);
  expect(await captured()).toEqual(['u row:*']);
});

test('nothing is visible before the commit, and nothing at all after a rollback', async () => {
  await client.query(`begin; insert into rows values (1, 'a')`);
  expect(await captured()).toEqual([]);
  expect(await captured(client)).toEqual(['i row:a:*']);
  await client.query('rollback');
  expect(await captured()).toEqual([]);
});

test('a transaction that a deferred constraint refuses at commit leaves nothing', async () => {
  await client.query(`create table public.line (id integer, row_id integer references public.rows deferrable initially deferred);
    select cache_invalidation.watch('public.line', 'line:{row_id}'); delete from cache_invalidation.changes`);
  await client.query('begin; insert into line values (1, 99)');
  await expect(client.query('commit')).rejects.toThrow(/foreign key/);
  expect(await captured()).toEqual([]);
  await client.query(`begin; insert into line values (1, 99); insert into rows values (99, 'late'); commit`);
  expect(await captured()).toEqual(['i line:99', 'i row:late:*']);
});

test('a prepared transaction is there after COMMIT PREPARED, and not after ROLLBACK PREPARED', async () => {
  for (const [index, end] of ['commit', 'rollback'].entries()) {
    await client.query(`begin; set local cache_invalidation.bell = off; insert into rows values (${index}, '${end}');
      prepare transaction '${end}-${process.pid}'`);
    expect(await captured()).toEqual(index === 0 ? [] : ['i row:commit:*']);
    await client.query(`${end} prepared '${end}-${process.pid}'`);
    expect(await captured()).toEqual(['i row:commit:*']);
  }
});

test('concurrent writers of one row and of one organisation do not wait for each other longer than Postgres makes them', async () => {
  await client.query(`insert into rows values (201, 'shared'), (202, 'shared')`);
  await client.query(`begin; update rows set used = 1 where id = 201`);
  await other.query(`set lock_timeout = '1ms'; update rows set used = 1 where id = 202; reset lock_timeout`);
  await client.query('commit');
  expect(await captured()).toEqual(['i row:shared:*', 'u row:shared:*', 'u row:shared:*']);
});

test('what logical replication applies fires the row triggers of a subscriber', async () => {
  // A server of its own: a new slot waits for every transaction of its server, and other tests keep long ones open.
  const publisher = await startPostgres();
  const source = await connect(publisher.url);
  try {
    await source.query(`create table public.copied (id integer primary key, org_id text);
      insert into copied values (1, 'before'); create publication p for table public.copied`);
    await source.query(`select pg_create_logical_replication_slot('fencepost_${process.pid}', 'pgoutput')`);
    await client.query(`create table public.copied (id integer primary key, org_id text);
      create subscription s connection '${new URL(publisher.url).href}' publication p
      with (create_slot = false, slot_name = 'fencepost_${process.pid}', copy_data = false)`);
    await client.query(`select cache_invalidation.watch('public.copied', 'copied:{org_id}')`);
    await source.query(
      `insert into copied values (2, 'new'); update copied set org_id = 'moved' where id = 2`,
    );
    const position = await source.query<{ lsn: string }>('select pg_current_wal_lsn() as lsn');
    for (;;) {
      const { rows: slots } = await source.query<{ done: boolean }>(
        `select confirmed_flush_lsn >= $1::pg_lsn as done from pg_replication_slots where slot_name = 'fencepost_${process.pid}'`,
        [position.rows[0]?.lsn],
      );
      if (slots[0]?.done === true) break;
    }
    expect(await captured()).toEqual(expect.arrayContaining(['i copied:new', 'u copied:moved']));
  } finally {
    await client.query('drop subscription if exists s');
    await source.end();
    await publisher.stop();
  }
});
