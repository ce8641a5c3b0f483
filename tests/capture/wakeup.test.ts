/** The doorbell: who rings when, and that no writer ever waits for the worker. */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { type Drain, startDrain } from './drain.ts';

const K = '461870001';
let database: ClonedDatabase;
let writer: pg.Client;
let listener: pg.Client;
let rings: number;

beforeAll(async () => {
  database = await cloneDatabase();
  [writer, listener] = await Promise.all([connect(), connect()]);
  listener.on('notification', () => {
    rings += 1;
  });
  await listener.query('listen cache_invalidation');
  await writer.query(`create table public.jobs (name text);
    select cache_invalidation.watch('public.jobs', 'job:{name}')`);
});

beforeEach(async () => {
  await heard();
  rings = 0;
});

afterEach(async () => {
  await listener.query(`select pg_advisory_unlock_all()`);
});

afterAll(async () => {
  await writer?.end();
  await listener?.end();
  await database?.drop();
});

async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return client;
}

/** Notifications that were sent before arrive before this statement's answer. */
async function heard(): Promise<number> {
  await listener.query('select 1');
  return rings;
}

test('the constants are the ones that the worker has', async () => {
  const { rows } = await writer.query(
    'select cache_invalidation.doorbell_lock() as k, cache_invalidation.leadership_lock() as s',
  );
  expect(rows).toEqual([{ k: K, s: '461870002' }]);
});

test('a writer is silent while nobody holds K, and rings once for each transaction while somebody does', async () => {
  await writer.query(`insert into jobs values ('a')`);
  expect(await heard()).toBe(0);
  await listener.query(`select pg_advisory_lock(${K})`);
  await writer.query(`begin; insert into jobs values ('b'); insert into jobs values ('c'); commit`);
  expect(await heard()).toBe(1);
  await writer.query(`select cache_invalidation.invalidate('job:x')`);
  expect(await heard()).toBe(2);
  await writer.query(`begin; insert into jobs values ('d'); rollback`);
  expect(await heard()).toBe(2);
});

test('a statement that changes no row does not ring', async () => {
  await listener.query(`select pg_advisory_lock(${K})`);
  await writer.query(`update jobs set name = 'x' where false; delete from jobs where false`);
  expect(await heard()).toBe(0);
});

test('K cannot be taken while a silent writer is open, and no writer waits for whoever tries', async () => {
  const second = await connect();
  await writer.query(`begin; insert into jobs values ('silent')`);
  const attempt = () => listener.query<{ held: boolean }>(`select pg_try_advisory_lock(${K}) as held`);
  expect((await attempt()).rows[0]?.held).toBe(false);
  // Somebody queues for K, against the rules: writers still do not wait behind it, they ring.
  const queueing = await connect();
  const { rows } = await queueing.query<{ pid: number }>('select pg_backend_pid() as pid');
  const queued = queueing.query(`select pg_advisory_lock(${K})`);
  await waitingFor(rows[0]?.pid ?? 0);
  await second.query(`set lock_timeout = '1ms'; insert into jobs values ('another')`);
  expect(await heard()).toBe(1);
  await writer.query('commit');
  await queued;
  await queueing.end();
  await second.end();
});

test('after a rollback to a savepoint the writer rings again', async () => {
  await writer.query(`begin; savepoint s; insert into jobs values ('a'); rollback to savepoint s`);
  await listener.query(`select pg_advisory_lock(${K})`);
  await writer.query(`insert into jobs values ('b'); commit`);
  expect(await heard()).toBe(1);
});

test('bell = off is silent, and lets a transaction be prepared', async () => {
  await listener.query(`select pg_advisory_lock(${K})`);
  await writer.query(`begin; insert into jobs values ('loud')`);
  await expect(writer.query(`prepare transaction 'loud'`)).rejects.toThrow(/NOTIFY/);
  await writer.query('rollback');
  await writer.query(`begin; set local cache_invalidation.bell = off; insert into jobs values ('quiet')`);
  await writer.query(`prepare transaction 'quiet-${process.pid}'`);
  const count = async () =>
    (await writer.query(`select from cache_invalidation.outbox where target = 'job:quiet'`)).rowCount;
  expect(await count()).toBe(0);
  await writer.query(`commit prepared 'quiet-${process.pid}'`);
  expect(await count()).toBe(1);
  expect(await heard()).toBe(0);
});

test('a worker that drains and sleeps hands out everything, whoever writes when', async () => {
  const seen = new Set<string>();
  let check = () => {};
  const drain: Drain = await startDrain({
    url: database.url,
    invalidate: (rows) => {
      for (const row of rows) seen.add(row.target);
      check();
    },
    maxRows: 7,
    vacuumEvery: 0,
  });
  try {
    for (let round = 0; round < 30; round += 1) {
      if (round % 3 === 0) await drain.asleep();
      const targets = Array.from({ length: 1 + (round % 9) }, (_, index) => `job:round-${round}-${index}`);
      const allSeen = new Promise<void>((resolve) => {
        check = () => {
          if (targets.every((target) => seen.has(target))) resolve();
        };
      });
      await writer.query('insert into jobs select substr(t, 5) from unnest($1::text[]) as t', [targets]);
      await allSeen;
    }
  } finally {
    await drain.stop();
  }
  expect((await writer.query('select from cache_invalidation.outbox')).rowCount).toBe(0);
});

/** Until that backend waits for a lock. */
async function waitingFor(pid: number): Promise<void> {
  const observer = await connect();
  try {
    for (;;) {
      const waiting = await observer.query(
        `select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'`,
        [pid],
      );
      if (waiting.rowCount === 1) return;
    }
  } finally {
    await observer.end();
  }
}
