/** The wakeup: which writers send a NOTIFY and when, and that no writer ever waits for the worker. */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { type SqlWorker, startSqlWorker } from './sql-worker.ts';

const WAKE_LOCK = '461870001';
let database: ClonedDatabase;
let writer: pg.Client;
let listener: pg.Client;
let notifications: number;

beforeAll(async () => {
  database = await cloneDatabase();
  [writer, listener] = await Promise.all([connect(), connect()]);
  listener.on('notification', () => {
    notifications += 1;
  });
  await listener.query('listen cache_invalidation');
  await writer.query(`create table public.jobs (name text);
    select cache_invalidation.watch('public.jobs', 'job:{name}')`);
});

beforeEach(async () => {
  await received();
  notifications = 0;
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

/** Notifications sent earlier arrive before this statement's answer. */
async function received(): Promise<number> {
  await listener.query('select 1');
  return notifications;
}

test('the constants are the ones that the worker has', async () => {
  const { rows } = await writer.query(
    'select cache_invalidation.doorbell_lock() as wake, cache_invalidation.leadership_lock() as leader',
  );
  expect(rows).toEqual([{ wake: WAKE_LOCK, leader: '461870002' }]);
});

test('a writer is silent while WAKE_LOCK is free, and notifies once for each transaction while it is held', async () => {
  await writer.query(`insert into jobs values ('a')`);
  expect(await received()).toBe(0);
  await listener.query(`select pg_advisory_lock(${WAKE_LOCK})`);
  await writer.query(`begin; insert into jobs values ('b'); insert into jobs values ('c'); commit`);
  expect(await received()).toBe(1);
  await writer.query(`select cache_invalidation.invalidate('job:x')`);
  expect(await received()).toBe(2);
  await writer.query(`begin; insert into jobs values ('d'); rollback`);
  expect(await received()).toBe(2);
});

test('a statement that changes no row does not notify', async () => {
  await listener.query(`select pg_advisory_lock(${WAKE_LOCK})`);
  await writer.query(`update jobs set name = 'x' where false; delete from jobs where false`);
  expect(await received()).toBe(0);
});

test("WAKE_LOCK is refused while a silent writer's transaction is open, and no writer waits for a session that queues for it", async () => {
  const second = await connect();
  await writer.query(`begin; insert into jobs values ('silent')`);
  const attempt = () =>
    listener.query<{ held: boolean }>(`select pg_try_advisory_lock(${WAKE_LOCK}) as held`);
  expect((await attempt()).rows[0]?.held).toBe(false);
  // A session queues for WAKE_LOCK, against the rules. Writers still do not wait behind it: they notify.
  const queueing = await connect();
  const { rows } = await queueing.query<{ pid: number }>('select pg_backend_pid() as pid');
  const queued = queueing.query(`select pg_advisory_lock(${WAKE_LOCK})`);
  await waitingFor(rows[0]?.pid ?? 0);
  await second.query(`set lock_timeout = '1ms'; insert into jobs values ('another')`);
  expect(await received()).toBe(1);
  await writer.query('commit');
  await queued;
  await queueing.end();
  await second.end();
});

test('after a rollback to a savepoint the writer notifies again', async () => {
  await writer.query(`begin; savepoint s; insert into jobs values ('a'); rollback to savepoint s`);
  await listener.query(`select pg_advisory_lock(${WAKE_LOCK})`);
  await writer.query(`insert into jobs values ('b'); commit`);
  expect(await received()).toBe(1);
});

test('bell = off is silent, and lets a transaction be prepared', async () => {
  await listener.query(`select pg_advisory_lock(${WAKE_LOCK})`);
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
  expect(await received()).toBe(0);
});

test('a worker that delivers and sleeps hands out everything, whenever it is written', async () => {
  const seen = new Set<string>();
  let check = () => {};
  const worker: SqlWorker = await startSqlWorker({
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
      if (round % 3 === 0) await worker.asleep();
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
    await worker.stop();
  }
  expect((await writer.query('select from cache_invalidation.outbox')).rowCount).toBe(0);
});

/** Resolves when that backend waits for a lock. */
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
