/**
 * Changes that name transactions of another server, as after a data-only restore: claim() goes by those numbers, and they may be
 * past, in use or yet to come here. None is lost, and none is acknowledged for another.
 */
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { acknowledge, claim } from './sql-worker.ts';

let database: ClonedDatabase;
let worker: pg.Client;
let writer: pg.Client;
let first: string;

beforeAll(async () => {
  database = await cloneDatabase();
  worker = new pg.Client({ connectionString: database.url });
  writer = new pg.Client({ connectionString: database.url });
  await Promise.all([worker.connect(), writer.connect()]);
  await worker.query(`create table public.jobs (name text);
    select cache_invalidation.watch('public.jobs', 'job:{name}')`);
  first = await numberOf(worker, 'pg_snapshot_xmax(pg_current_snapshot())');
});

beforeEach(async () => {
  await worker.query('delete from cache_invalidation.changes');
});

afterAll(async () => {
  await Promise.all([worker?.end(), writer?.end()]);
  await database?.drop();
});

async function numberOf(client: pg.Client, number: string): Promise<string> {
  const { rows } = await client.query<{ number: string }>(`select ${number}::text as number`);
  return rows[0]?.number ?? '';
}

/**
 * A change as the restore of a dump writes it, under a number so far from the one that was next when this file began: other files'
 * transactions use up numbers meanwhile.
 */
async function restore(name: string, distance: number, version = 'version', from = first): Promise<void> {
  await worker.query(
    `insert into cache_invalidation.changes (xid, version, change)
      select ($3::bigint + $2)::text::xid8, ${version}, format(E'i\\x01%L', $1::text)
        from (select id as version from cache_invalidation.versions
               where rel = 'public.jobs'::regclass and retired is null limit 1) as present`,
    [name, distance, from],
  );
}

/** Claims with small batches until `drained`. @returns all targets */
async function deliver(position: string | null, acknowledges = true): Promise<[string[], string]> {
  const targets: string[] = [];
  for (let batches = 0; ; batches += 1) {
    const batch = await claim(worker, position, 2);
    position = batch.position;
    targets.push(...batch.rows.map(({ target }) => target));
    if (acknowledges) expect(await acknowledge(worker, batch.xids)).toBe(batch.changes);
    if (batch.drained) return [targets.sort(), position];
    if (batches > 100) throw new Error('delivery does not end');
  }
}

test('numbers of the past and of the future are handed out beside those of this server', async () => {
  for (const distance of [-500, 100_000, 100_001, 100_002]) await restore(`restored${distance}`, distance);
  for (const name of ['a', 'b', 'c']) await writer.query('insert into public.jobs values ($1)', [name]);
  const expected = ['a', 'b', 'c', 'restored-500', 'restored100000', 'restored100001', 'restored100002'];
  const [targets, position] = await deliver(null);
  expect(targets).toEqual(expected.map((name) => `job:${name}`));
  // What is committed under lower numbers than those is not skipped afterwards.
  await writer.query(`insert into public.jobs values ('later')`);
  expect((await deliver(position))[0]).toEqual(['job:later']);
  expect((await deliver(null))[0]).toEqual([]);
});

test('what is restored while a worker delivers is found by the next position from the beginning', async () => {
  await writer.query(`insert into public.jobs values ('a')`);
  const [, position] = await deliver(null);
  await restore('past', -500);
  await deliver(position);
  expect((await deliver(null))[0]).toEqual(['job:past']);
});

test('a restored change of a transaction that is open here is handed out, and again with that one’s own', async () => {
  await writer.query(`begin; insert into public.jobs values ('own')`);
  await restore('restored', 0, 'version', await numberOf(writer, 'pg_current_xact_id()'));
  expect(await deliver(null, false)).toEqual([['job:restored'], expect.any(String)]);
  await writer.query('commit');
  expect((await deliver(null))[0]).toEqual(['job:own', 'job:restored']);
});

test('a change of a version that this database does not know invalidates everything', async () => {
  await restore('unknown', -500, 'version + 1');
  expect((await deliver(null))[0]).toEqual(['*']);
});
