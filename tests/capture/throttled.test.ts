/**
 * Throttled targets in cache_invalidation.pending: what merges with what, when they are due, what they cost, and that nobody waits
 * for a row that another session has locked. When one runs at once: worker/src/delivery/throttled-targets.test.ts. Tests move time by
 * changing the stored times.
 */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Outbox } from '../../worker/src/db/outbox.ts';
import { Pending } from '../../worker/src/db/pending.ts';
import type { Unconfirmed, Why } from '../../worker/src/db/pending-put.ts';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

let database: ClonedDatabase;
let client: pg.Client;
let other: pg.Client;
let outbox: Outbox;
let pending: Pending;

beforeAll(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url });
  other = new pg.Client({ connectionString: database.url });
  await Promise.all([client.connect(), other.connect()]);
  // As the worker's sessions; a session that waits for a lock in this file fails. Nothing but this file locks these tables or reads them.
  await client.query(`set lock_timeout = '100ms'; set plan_cache_mode = force_generic_plan;
    set enable_seqscan = off; set enable_bitmapscan = off;
    alter table cache_invalidation.changes set (autovacuum_enabled = off);
    alter table cache_invalidation.pending set (autovacuum_enabled = off)`);
  outbox = new Outbox(client);
  pending = new Pending(client);
});
beforeEach(async () => {
  // Not DELETE: what is read of an index is counted below, and deleted rows stay in it for a while.
  await client.query('truncate cache_invalidation.changes, cache_invalidation.pending');
});
afterEach(async () => {
  await other.query('rollback');
});
afterAll(async () => {
  await Promise.all([client?.end(), other?.end()]);
  await database?.drop();
});

/** Far longer than a busy machine needs for any step. */
const MINUTE = 60_000;

const left = (why: Why, waitMs: number, target = 'a:1'): Unconfirmed => ({ target, why, waitMs });
const throttled = (waitMs: number, target?: string) => left('throttled', waitMs, target);

/** An event of each target, acknowledged with these. @returns how many were; null: none */
async function put(...unconfirmed: Unconfirmed[]): Promise<number | null> {
  for (const { target } of unconfirmed) await outbox.invalidate(target);
  const { xids } = await outbox.claim(null, 1_000);
  return await outbox.acknowledge(xids ?? '{}', unconfirmed);
}

const rows = async () =>
  (
    await client.query<{ target: string; why: string; in_min: number; attempts: number; failed: boolean }>(
      `select target, why, round(extract(epoch from due_at - clock_timestamp()) / 60)::int as in_min, attempts,
              failed_at is not null as failed
         from cache_invalidation.pending order by target`,
    )
  ).rows;

const due = async () => (await pending.due('throttled', 10)).map(({ target }) => target);

const passes = (interval: string) =>
  client.query(
    'update cache_invalidation.pending set due_at = due_at - $1::interval, since = since - $1::interval',
    [interval],
  );

test('waits for its time, in one row however many events there are, and is no business of the queue', async () => {
  await put(throttled(60 * MINUTE));
  for (let events = 0; events < 3; events++) await put(throttled(60 * MINUTE));
  expect(await rows()).toMatchObject([{ target: 'a:1', why: 'throttled', in_min: 60 }]);
  expect(await due()).toEqual([]);
  expect(await pending.nextDueMs('throttled')).toBeGreaterThan(59 * MINUTE);
  await passes('1 hour');
  expect(await due()).toEqual(['a:1']);
  expect(await pending.due('delete', 10)).toEqual([]);
  expect(await pending.nextDueMs('delete')).toBeNull();
  expect(await pending.counts()).toEqual({ due: 0, later: 0, failed: 0 });
  expect(await pending.throttled(10)).toBe(1);
});

test('an event that comes during its run keeps it', async () => {
  await put(throttled(0), throttled(0, 'a:2'));
  const read = await pending.due('throttled', 10);
  await put(throttled(60_000));
  expect(await pending.confirm(read, 0)).toBe(1);
  expect(await rows()).toMatchObject([{ target: 'a:1', why: 'throttled' }]);
});

test('what Redis refuses of it is the queue’s from then on; what it confirms is deleted again after the lag', async () => {
  await put(throttled(0), throttled(0, 'a:2'));
  const read = await pending.due('throttled', 10);
  await pending.put([{ target: 'a:1', why: 'refused', waitMs: MINUTE, code: 'UPSTASH_REFUSED' }]);
  expect(await pending.confirm(read, 5 * MINUTE)).toBe(1);
  expect(await rows()).toMatchObject([
    { target: 'a:1', why: 'refused', in_min: 1 },
    { target: 'a:2', why: 'second delete', in_min: 5 },
  ]);
  expect(await pending.throttled(10)).toBe(0);
});

test('a settled backlog and a confirmed epoch cover it', async () => {
  await put(throttled(60_000));
  await pending.settle(await outbox.snapshot());
  expect(await rows()).toEqual([]);
});

describe('merges', () => {
  test.each<[Why, number, Why, number, Why, number]>([
    // What is there and when it is due in minutes, what comes, what is there then.
    ['throttled', 60, 'throttled', 90, 'throttled', 60],
    ['throttled', 60, 'throttled', 30, 'throttled', 30],
    ['refused', 60, 'throttled', 30, 'refused', 60],
    ['sweep', 60, 'throttled', 30, 'sweep', 60],
    ['second delete', 60, 'throttled', 30, 'throttled', 30],
    ['second delete', 30, 'throttled', 60, 'throttled', 30],
    ['second sweep', 30, 'throttled', 60, 'throttled', 30],
    ['throttled', 60, 'second delete', 30, 'throttled', 30],
    ['throttled', 30, 'second delete', 60, 'throttled', 30],
    ['throttled', 60, 'refused', 1, 'refused', 1],
    ['throttled', 60, 'sweep', 0, 'sweep', 0],
  ])(
    'into %s in %i min comes %s in %i min: %s in %i min',
    async (why, inMinutes, comes, comesInMinutes, then, thenInMinutes) => {
      await put(left(why, inMinutes * MINUTE));
      await put(left(comes, comesInMinutes * MINUTE));
      expect(await rows()).toMatchObject([{ why: then, in_min: thenInMinutes }]);
    },
  );

  test('a dead letter waits like a new target, with new attempts', async () => {
    await put(left('refused', 0));
    await client.query('update cache_invalidation.pending set failed_at = now(), attempts = 8');
    await put(throttled(60 * MINUTE));
    expect(await rows()).toMatchObject([{ why: 'throttled', in_min: 60, attempts: 0, failed: false }]);
  });

  test('an outstanding first deletion keeps its attempts, and takes no confirmation that was read before', async () => {
    await put(left('refused', 0));
    await pending.refused(await pending.due('delete', 1), ['UPSTASH_REFUSED']);
    await passes('1 minute');
    const read = await pending.due('delete', 1);
    await put(throttled(60_000));
    expect(await pending.confirm(read, 0)).toBe(0);
    expect(await rows()).toMatchObject([{ why: 'refused', attempts: 1 }]);
  });
});

describe('a lock of another session', () => {
  const holders: [string, string][] = [
    ['on its row', `update cache_invalidation.pending set code = code where target = 'a:1'`],
    [
      'that has inserted it and not committed',
      `insert into cache_invalidation.pending (target, why, due_at) values ('a:3', 'throttled', now())`,
    ],
    ['on the table', 'lock table cache_invalidation.pending in access exclusive mode'],
  ];
  test.each(holders)('%s holds up nothing: its events run at once', async (_, statement) => {
    await put(throttled(60_000));
    await other.query(`begin; ${statement}`);
    expect(await put(throttled(60_000), throttled(60_000, 'a:3'))).toBeNull();
    // Nothing is acknowledged yet; the worker runs them now.
    const { xids, targets } = await outbox.claim(null, 10);
    expect(targets.map(({ target }) => target).sort()).toEqual(['a:1', 'a:3']);
    expect(await outbox.acknowledge(xids ?? '{}', [])).toBe(2);
    await other.query('rollback');
    expect(await put(throttled(60_000), throttled(60_000, 'a:3'))).toBe(2);
    expect((await outbox.claim(null, 10)).xids).toBeNull();
  });

  test('delays no other target that is due', async () => {
    await put(throttled(0), throttled(0, 'a:2'));
    await other.query(`begin; update cache_invalidation.pending set code = code where target = 'a:1'`);
    expect(await pending.confirm(await pending.due('throttled', 10), 0)).toBe(1);
    await other.query('rollback');
    expect(await rows()).toMatchObject([{ target: 'a:1', why: 'throttled' }]);
  });
});

/** Index entries and rows of `pending` that were read so far. */
async function read(): Promise<number> {
  await client.query('select pg_stat_force_next_flush()');
  const { rows } = await client.query<{ entries: string }>(
    `select sum(s.idx_tup_read) + (
        select t.seq_tup_read + t.idx_tup_fetch from pg_stat_user_tables as t where t.relid = 'cache_invalidation.pending'::regclass
      ) as entries from pg_stat_user_indexes as s where s.relid = 'cache_invalidation.pending'::regclass`,
  );
  return Number(rows[0]?.entries);
}

test('twenty thousand that wait cost a delivery and the queue nothing', async () => {
  const calls = {
    due: () => pending.due('throttled', 1_000),
    nextDue: () => pending.nextDueMs('throttled'),
    dueOfQueue: () => pending.due('delete', 1_000),
    nextDueOfQueue: () => pending.nextDueMs('delete'),
    deliver: () => put(throttled(60_000, 'x:1'), left('refused', 60_000, 'x:2')),
    deliverAgain: () => put(throttled(60_000, 'x:1'), left('refused', 60_000, 'x:2')),
  };
  // The session plans while the table is empty.
  for (const call of Object.values(calls)) for (let times = 0; times < 6; times++) await call();
  await client.query(
    `insert into cache_invalidation.pending (target, why, due_at)
       select 'meter:' || n, 'throttled', now() + interval '1 hour' from generate_series(1, 20000) as n`,
  );
  const cost: Record<string, number> = {};
  for (const [name, call] of Object.entries(calls)) {
    const before = await read();
    await call();
    cost[name] = (await read()) - before;
  }
  for (const [name, entries] of Object.entries(cost)) expect(entries, name).toBeLessThan(50);
});

test('when the clock steps back, it does not wait for the size of the step', async () => {
  await put(throttled(60_000));
  await passes('-1 day');
  expect(await pending.nextDueMs('throttled')).toBe(0);
  expect(await due()).toEqual(['a:1']);
});

test('so it is of one that was a second deletion before: its age counts from its first event on', async () => {
  await put(left('second delete', 172_800_000));
  await passes('1 day');
  await put(throttled(60_000));
  await passes('-1 hour');
  expect(await due()).toEqual(['a:1']);
});
