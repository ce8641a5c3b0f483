/**
 * min_interval: the first event of a target runs at once, later ones at most once in each interval, and the last is never
 * lost, even by a crash between due() and settle(). Tests move time by changing the stored times, not by waiting.
 */
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { acknowledge, type Batch, claim } from './sql-worker.ts';

let database: ClonedDatabase;
let client: pg.Client;
let position: string | null;

beforeAll(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await client.query(`create table public.meter (org_id text, kind text);
    select cache_invalidation.watch('public.meter', 'meter:{org_id}:*', min_interval => '1 hour');
    select cache_invalidation.watch('public.meter', 'plain:{org_id}')`);
});

beforeEach(async () => {
  await client.query('delete from cache_invalidation.outbox; delete from cache_invalidation.deferred');
  position = null;
});

afterAll(async () => {
  await client?.end();
  await database?.drop();
});

async function next(): Promise<Batch> {
  const batch = await claim(client, position, 100);
  position = batch.position;
  return batch;
}

const targets = (batch: Batch): string[] => batch.rows.map((row) => row.target).sort();
const event = (org: string) => client.query('insert into public.meter values ($1)', [org]);
const anHourPasses = () =>
  client.query(
    `update cache_invalidation.deferred set due_at = due_at - interval '1 hour', ran_at = ran_at - interval '1 hour'`,
  );

/** The run of the last call of due() that gave a target. */
let run = '';

async function due(): Promise<string[]> {
  const { rows } = await client.query<{ target: string; run: string }>(
    'select * from cache_invalidation.due(100)',
  );
  run = rows[0]?.run ?? run;
  return rows.map((row) => row.target).sort();
}

const settle = (of: string) =>
  client.query(`select cache_invalidation.settle('{meter:a:*}', $1::uuid)`, [of]);

async function count(table: string): Promise<number> {
  const { rows } = await client.query<{ count: string }>(`select count(*) from cache_invalidation.${table}`);
  return Number(rows[0]?.count);
}

test('at once, then after the interval, the last event included', async () => {
  await event('a');
  const first = await next();
  expect(targets(first)).toEqual(['meter:a:*', 'plain:a']);
  await acknowledge(client, first.rows);
  await event('a');
  await event('b');
  const second = await next();
  expect(targets(second)).toEqual(['meter:b:*', 'plain:a', 'plain:b']);
  await acknowledge(client, second.rows);
  expect(await count('outbox')).toBe(0);
  expect(await due()).toEqual([]);
  await anHourPasses();
  expect(await due()).toEqual(['meter:a:*']);
  await settle(run);
  await event('a');
  expect(targets(await next())).toEqual(['plain:a']);
});

test('an event while a due target is being run makes it run again', async () => {
  await event('a');
  await acknowledge(client, (await next()).rows);
  await event('a');
  await next();
  await anHourPasses();
  expect(await due()).toEqual(['meter:a:*']);
  await event('a');
  expect(targets(await next())).toEqual(['plain:a']);
  await settle(run);
  expect(await due()).toEqual([]);
  await anHourPasses();
  expect(await due()).toEqual(['meter:a:*']);
});

test('a crash between due() and settle() does not lose the target', async () => {
  await event('a');
  await acknowledge(client, (await next()).rows);
  await event('a');
  await next();
  await anHourPasses();
  expect(await due()).toEqual(['meter:a:*']);
  expect(await due()).toEqual([]);
  position = null; // a new leader
  await next();
  expect(await due()).toEqual(['meter:a:*']);
});

test('a crash before the acknowledgement runs the first event again', async () => {
  await event('a');
  expect(targets(await next())).toEqual(['meter:a:*', 'plain:a']);
  position = null;
  expect(targets(await next())).toEqual(['meter:a:*', 'plain:a']);
});

test('a thousand events in an interval cost one row, and a target whose interval is over is forgotten', async () => {
  await event('a');
  await acknowledge(client, (await next()).rows);
  for (let number = 0; number < 200; number += 1) await event('a');
  for (let batch = await next(); !batch.drained || batch.rows.length > 0; batch = await next()) {
    expect(targets(batch).every((target) => target === 'plain:a')).toBe(true);
    await acknowledge(client, batch.rows);
  }
  expect(await count('outbox')).toBe(0);
  expect(await count('deferred')).toBe(1);
  const { rows } = await client.query<{ at: Date | null }>('select cache_invalidation.next_due() as at');
  expect(rows[0]?.at?.getTime()).toBeGreaterThan(Date.now() + 3_500_000);
  await anHourPasses();
  expect(await due()).toEqual(['meter:a:*']);
  await settle(run);
  await anHourPasses();
  expect(await due()).toEqual([]);
  await client.query('select cache_invalidation.forget_rested()');
  expect(await count('deferred')).toBe(0);
});

test('collapsed statements are throttled like any other target', async () => {
  const bulk = () =>
    client.query(`insert into public.meter select 'o' || i from generate_series(1, 1500) as i`);
  await bulk();
  const first = await next();
  expect(targets(first)).toEqual(['meter:*', 'plain:*']);
  await acknowledge(client, first.rows);
  await bulk();
  expect(targets(await next())).toEqual(['plain:*']);
});

test('a worker that was stopped before settle() does not end the run of its successor', async () => {
  await event('a');
  await acknowledge(client, (await next()).rows);
  await event('a');
  await next();
  await anHourPasses();
  // A runs it, has its confirmation, and is stopped. B takes over, runs it again and settles.
  expect(await due()).toEqual(['meter:a:*']);
  const runOfA = run;
  position = null;
  await next();
  expect(await due()).toEqual(['meter:a:*']);
  await settle(run);
  // Another event; B begins to run it. A wakes up and settles.
  await event('a');
  await next();
  await anHourPasses();
  expect(await due()).toEqual(['meter:a:*']);
  await settle(runOfA);
  // B dies before Redis has confirmed.
  position = null;
  await next();
  await anHourPasses();
  expect(await due()).toEqual(['meter:a:*']);
});

test('a run that its worker took after its successor had resumed is not kept for ever', async () => {
  await event('a');
  await acknowledge(client, (await next()).rows);
  await event('a');
  await next();
  await anHourPasses();
  // The call of a worker that is gone is still under way when the next one begins.
  const gone = new pg.Client({ connectionString: database.url });
  await gone.connect();
  await gone.query('begin; select * from cache_invalidation.due(100)');
  await client.query('select cache_invalidation.resume()');
  await gone.query('commit');
  await gone.end();
  await event('a');
  await next();
  const { rows } = await client.query<{ at: Date | null }>('select cache_invalidation.next_due() as at');
  expect(rows[0]?.at?.getTime()).toBeLessThan(Date.now() + 70_000);
  expect(await due()).toEqual([]);
  await anHourPasses();
  expect(await due()).toEqual(['meter:a:*']);
  await settle(run);
  expect(await count('deferred')).toBe(1);
  await anHourPasses();
  expect(await due()).toEqual([]);
});

test('a locked row is not forgotten, and no session waits for it', async () => {
  await event('a');
  await acknowledge(client, (await next()).rows);
  await anHourPasses();
  const other = new pg.Client({ connectionString: database.url });
  await other.connect();
  await other.query(`begin; select from cache_invalidation.deferred for update`);
  await client.query('select cache_invalidation.forget_rested()');
  expect(await count('deferred')).toBe(1);
  await other.query('rollback');
  await other.end();
});

test('a target too long to be remembered runs at each event, and is acknowledged', async () => {
  const columns = Array.from({ length: 10 }, (_, index) => `part_${index}`);
  await client.query(`create table public.long_keys (${columns.map((name) => `${name} text`).join(', ')});
    select cache_invalidation.watch('public.long_keys', 'long:${columns.map((name) => `{${name}}`).join(':')}', min_interval => '1 hour'); delete from cache_invalidation.outbox`);
  for (let round = 0; round < 2; round++) {
    // Random bytes, which no compression makes fit.
    await client.query(
      `insert into long_keys select ${columns.map((name) => `string_agg(chr(192 + (random() * 60)::int), '') as ${name}`).join(', ')}
        from generate_series(1, 90)`,
    );
    const batch = await next();
    expect(batch.rows).toHaveLength(1);
    expect(batch.rows[0]?.target.length).toBeGreaterThan(5_000);
    expect(await acknowledge(client, batch.rows)).toBe(1);
  }
  expect(await count('deferred')).toBe(0);
});
