/** A worker that is away for long: nothing is lost, and the outbox can be settled by a new epoch or by compact(). */
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { acknowledge, claim } from './sql-worker.ts';

let database: ClonedDatabase;
let client: pg.Client;
let other: pg.Client;

beforeAll(async () => {
  database = await cloneDatabase();
  [client, other] = await Promise.all([connect(), connect()]);
  await client.query(`create table public.jobs (name text);
    select cache_invalidation.watch('public.jobs', 'job:{name}')`);
});

beforeEach(async () => {
  await client.query('delete from cache_invalidation.changes');
});

afterAll(async () => {
  await client?.end();
  await other?.end();
  await database?.drop();
});

async function connect(): Promise<pg.Client> {
  const connected = new pg.Client({ connectionString: database.url });
  await connected.connect();
  return connected;
}

async function value<T>(sql: string, values: unknown[] = []): Promise<T> {
  const { rows } = await client.query<{ value: T }>(`select ${sql} as value`, values);
  const row = rows[0];
  if (row === undefined) throw new Error('no row');
  return row.value;
}

async function pending(): Promise<string[]> {
  return (await claim(client, null, 10_000)).rows.map((row) => row.target).sort();
}

test('a day of writes without a worker is all there', async () => {
  await client.query(
    `do $$ begin for i in 1..5000 loop insert into jobs values ('j' || i); commit; end loop; end $$`,
  );
  expect(new Set(await pending()).size).toBe(5000);
});

test('a new epoch settles exactly the rows that were visible before it', async () => {
  for (const name of ['old-1', 'old-2']) await client.query('insert into jobs values ($1)', [name]);
  await other.query(`begin; insert into jobs values ('in-flight')`);
  const before = await value<string>('cache_invalidation.new_epoch()');
  const snapshot = await value<string>('pg_current_snapshot()::text');
  const epoch = await value<string>('cache_invalidation.new_epoch()');
  expect(epoch).toMatch(/^[0-9a-f]{32}$/);
  expect(epoch).not.toBe(before);
  expect(await value<string>('(select value from cache_invalidation.epoch)')).toBe(epoch);
  await other.query('commit');
  await client.query(`insert into jobs values ('new')`);
  expect(await value('cache_invalidation.discard($1::pg_snapshot, 1)', [snapshot])).toBe('1');
  expect(await value('cache_invalidation.discard($1::pg_snapshot, 100)', [snapshot])).toBe('1');
  expect(await value('cache_invalidation.discard($1::pg_snapshot, 100)', [snapshot])).toBe('0');
  expect(await pending()).toEqual(['job:in-flight', 'job:new']);
});

test('compact() replaces what is there by one row for everything, and leaves what commits meanwhile', async () => {
  await client.query(
    `do $$ begin for i in 1..1000 loop insert into jobs values ('j' || i); end loop; end $$`,
  );
  await other.query(`begin; insert into jobs values ('in-flight')`);
  expect(await value('cache_invalidation.compact(5000)')).toBe('0');
  expect(await value('cache_invalidation.compact()')).toBe('1000');
  await other.query('commit');
  expect(await pending()).toEqual(['*', 'job:in-flight']);
  await client.query(`delete from cache_invalidation.changes where version is not null`);
  expect(await value('cache_invalidation.compact()')).toBe('0');
  expect(await pending()).toEqual(['*']);
});

test('compact() and a worker at the same time lose nothing', async () => {
  for (const name of ['a', 'b', 'c']) await client.query('insert into jobs values ($1)', [name]);
  const { xids } = await claim(client, null, 1);
  await other.query('begin');
  expect(await acknowledge(other, xids)).toBe(1);
  const compacted = value<string>('cache_invalidation.compact()');
  await other.query('commit');
  expect(Number(await compacted)).toBeGreaterThanOrEqual(2);
  expect(await pending()).toEqual(['*']);
});
