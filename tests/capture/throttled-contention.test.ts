/**
 * What throttled targets cost others, and what decides when they run: rows that another session has locked, many throttled
 * targets, several intervals for one target, a clock that steps back. Tests move time by changing the stored times.
 */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { acknowledge, type Batch, claim } from './sql-worker.ts';

let database: ClonedDatabase;
let client: pg.Client;
let other: pg.Client;
let position: string | null;

beforeAll(async () => {
  database = await cloneDatabase();
  [client, other] = await Promise.all([connect(), connect()]);
  // Whoever waits for a lock in this file has failed.
  await client.query(`set lock_timeout = '100ms';
    create table public.parents (org text);
    create table public.children (org text);
    select cache_invalidation.watch('public.parents', 'meter:{org}', min_interval => '1 hour');
    select cache_invalidation.watch('public.children', 'meter:{org}', min_interval => '10 minutes')`);
});

beforeEach(async () => {
  // Not DELETE: what is read of an index is counted below, and deleted rows stay in it for a while.
  await client.query('truncate cache_invalidation.outbox, cache_invalidation.deferred');
  position = null;
});

afterEach(async () => {
  await other.query('rollback');
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

async function next(): Promise<Batch> {
  const batch = await claim(client, position, 100);
  position = batch.position;
  return batch;
}

const targets = (batch: Batch): string[] => batch.rows.map((row) => row.target).sort();
const parent = (org: string) => client.query('insert into public.parents values ($1)', [org]);
const child = (org: string) => client.query('insert into public.children values ($1)', [org]);
const passes = (time: string) =>
  client.query(
    'update cache_invalidation.deferred set due_at = due_at - $1::interval, ran_at = ran_at - $1::interval',
    [time],
  );

async function value<T>(sql: string): Promise<T | undefined> {
  return (await client.query<{ value: T }>(`select (${sql}) as value`)).rows[0]?.value;
}

const rowsOf = async (table: string) =>
  Number(await value(`select count(*) from cache_invalidation.${table}`));

async function due(): Promise<{ targets: string[]; run: string | undefined }> {
  const { rows } = await client.query<{ target: string; run: string }>(
    'select * from cache_invalidation.due(100)',
  );
  return { targets: rows.map((row) => row.target).sort(), run: rows[0]?.run };
}

const settle = (run: string | undefined) =>
  client.query(`select cache_invalidation.settle('{meter:a}', $1::uuid)`, [run]);

/** A first event, acknowledged: the target is throttled. */
async function ran(write: (org: string) => Promise<unknown>): Promise<void> {
  await write('a');
  expect(targets(await acknowledged())).toEqual(['meter:a']);
}

async function acknowledged(): Promise<Batch> {
  const batch = await next();
  await acknowledge(client, batch.rows, batch.rests);
  return batch;
}

test('a target whose row is locked runs at once, and holds up no other', async () => {
  await ran(parent);
  await other.query('begin; update cache_invalidation.deferred set since = now()');
  await parent('a');
  await parent('b');
  expect(targets(await acknowledged())).toEqual(['meter:a', 'meter:b']);
  expect(await rowsOf('outbox')).toBe(0);
  await other.query('rollback');
  await parent('a');
  await parent('b');
  expect(targets(await next())).toEqual([]);
});

test('a run whose row is locked is a lease, for its worker and for the next one', async () => {
  await ran(parent);
  await parent('a');
  await next();
  await passes('1 hour');
  const first = await due();
  expect(first.targets).toEqual(['meter:a']);
  await other.query('begin; select from cache_invalidation.deferred for update');
  await settle(first.run);
  await client.query('select cache_invalidation.resume()');
  expect((await due()).targets).toEqual([]);
  await other.query('rollback');
  await passes('1 minute');
  const again = await due();
  expect(again.targets).toEqual(['meter:a']);
  await settle(again.run);
  expect(await value('select run is null and not waiting from cache_invalidation.deferred')).toBe(true);
});

test('an uncommitted first row of another session for the same target holds up nothing', async () => {
  await other.query(`begin;
    insert into cache_invalidation.deferred (target, due_at) values ('meter:a', now() + interval '1 hour')`);
  await parent('a');
  await parent('b');
  expect(targets(await acknowledged())).toEqual(['meter:a', 'meter:b']);
  expect(await rowsOf('outbox')).toBe(0);
});

/** Index entries and rows of `deferred` that were read so far. */
async function read(): Promise<number> {
  await client.query('select pg_stat_force_next_flush()');
  return Number(
    await value(`select sum(s.idx_tup_read) + (
        select t.seq_tup_read + t.idx_tup_fetch from pg_stat_user_tables as t where t.relid = 'cache_invalidation.deferred'::regclass
      ) from pg_stat_user_indexes as s where s.relid = 'cache_invalidation.deferred'::regclass`),
  );
}

test.each([
  ['throttled', false],
  ['that wait', true],
])('twenty thousand targets %s cost a delivery nothing', async (_, waiting) => {
  const calls = {
    due: () => due(),
    next_due: () => client.query('select cache_invalidation.next_due()'),
    forget_rested: () => client.query('select cache_invalidation.forget_rested()'),
    deliver: async () => {
      await parent('x');
      await acknowledged();
      await parent('x');
      await acknowledged();
    },
  };
  // The session plans while the table is empty.
  for (const call of Object.values(calls)) for (let times = 0; times < 6; times++) await call();
  await client.query(
    `insert into cache_invalidation.deferred (target, due_at, waiting)
       select 'meter:' || n, now() + interval '1 hour', $1 from generate_series(1, 20000) as n`,
    [waiting],
  );
  const cost: Record<string, number> = {};
  for (const [name, call] of Object.entries(calls)) {
    const before = await read();
    await call();
    cost[name] = (await read()) - before;
  }
  for (const [name, entries] of Object.entries(cost)) expect(entries, name).toBeLessThan(50);
});

test('forgetting goes in steps, and says when to call again', async () => {
  const again = () =>
    value<string>("select cache_invalidation.forget_rested(5) - clock_timestamp() <= interval '0'");
  expect(await again()).toBe(null);
  await client.query(
    `insert into cache_invalidation.deferred (target, due_at) select 'meter:' || n, now() - interval '1 s' from generate_series(1, 7) as n`,
  );
  await client.query(
    `insert into cache_invalidation.deferred (target, due_at) values ('meter:rests', now() + interval '1 hour')`,
  );
  expect(await again()).toBe(true);
  expect(await rowsOf('deferred')).toBe(3);
  expect(await again()).toBe(false);
  expect(await rowsOf('deferred')).toBe(1);
});

test('each event waits for the interval of its own watch', async () => {
  await ran(parent);
  await parent('a');
  expect(targets(await next())).toEqual([]);
  await passes('9 minutes');
  await child('a');
  await next();
  expect((await due()).targets).toEqual([]);
  await passes('1 minute');
  const first = await due();
  expect(first.targets).toEqual(['meter:a']);
  // While that runs: the shorter one counts, whichever comes first.
  await parent('a');
  await child('a');
  await next();
  await settle(first.run);
  await passes('10 minutes');
  expect((await due()).targets).toEqual(['meter:a']);
});

test('an event whose own interval is over runs at once, and a target with a longer interval stays throttled', async () => {
  await ran(parent);
  await passes('10 minutes');
  await child('a');
  expect(targets(await acknowledged())).toEqual(['meter:a']);
  await passes('20 minutes');
  await client.query('select cache_invalidation.forget_rested()');
  await parent('a');
  expect(targets(await next())).toEqual([]);
});

test('a shorter min_interval counts from the next event on', async () => {
  const declare = (interval: string) =>
    client.query(
      `select cache_invalidation.watch('public.parents', 'meter:{org}', min_interval => $1::interval)`,
      [interval],
    );
  await ran(parent);
  await parent('a');
  await next();
  await declare('5 minutes');
  try {
    await parent('a');
    await next();
    await passes('5 minutes');
    expect((await due()).targets).toEqual(['meter:a']);
  } finally {
    await declare('1 hour');
  }
});

test('when the clock steps back, neither what waits nor a run nor an event waits for the size of the step', async () => {
  await ran(parent);
  await parent('a');
  await next();
  await passes('-1 day');
  expect(await value('select cache_invalidation.next_due() <= clock_timestamp()')).toBe(true);
  expect((await due()).targets).toEqual(['meter:a']);
  await passes('-1 day');
  const again = await due();
  expect(again.targets).toEqual(['meter:a']);
  await settle(again.run);
  await passes('-1 day');
  await parent('a');
  expect(targets(await next())).toEqual(['meter:a']);
});

test('an interval that no clock reaches holds up no acknowledgement', async () => {
  await client.query(
    `update cache_invalidation.watches set min_interval = '400000 years' where rel = 'public.parents'::regclass`,
  );
  try {
    await ran(parent);
    expect(await rowsOf('outbox')).toBe(0);
    await parent('a');
    expect(targets(await next())).toEqual([]);
  } finally {
    await client.query(
      `update cache_invalidation.watches set min_interval = '1 hour' where rel = 'public.parents'::regclass`,
    );
  }
});
