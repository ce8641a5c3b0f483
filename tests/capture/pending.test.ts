/**
 * cache_invalidation.pending: what leaves the outbox unconfirmed. Merges and confirmations in real sessions, in every order that
 * matters. Random schedules are in schedules.test.ts.
 */
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Outbox } from '../../worker/src/db/outbox.ts';
import { Pending, type PendingTarget } from '../../worker/src/db/pending.ts';
import type { Unconfirmed } from '../../worker/src/db/pending-put.ts';
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
  outbox = new Outbox(client);
  pending = new Pending(client);
});
beforeEach(async () => {
  await client.query('delete from cache_invalidation.changes; delete from cache_invalidation.pending');
});
afterAll(async () => {
  await Promise.all([client?.end(), other?.end()]);
  await database?.drop();
});

interface Row {
  readonly target: string;
  readonly why: string;
  readonly attempts: number;
  readonly state: unknown;
  readonly code: string | null;
  readonly failed: boolean;
  readonly due: boolean;
}

const rows = async (): Promise<Row[]> =>
  (
    await client.query<Row>(
      `select target, why, attempts, state, code, failed_at is not null as failed, due_at <= clock_timestamp() as due
         from cache_invalidation.pending order by target`,
    )
  ).rows;

const refused = (target: string, waitMs = 0): Unconfirmed => ({
  target,
  why: 'refused',
  waitMs,
  code: 'UPSTASH_REFUSED',
});

/** An event of each target, acknowledged as unconfirmed. */
async function put(unconfirmed: readonly Unconfirmed[], by: pg.Client = client): Promise<void> {
  const store = new Outbox(by);
  for (const { target } of unconfirmed) await store.invalidate(target);
  const { xids } = await store.claim(null, 1_000);
  expect(await store.acknowledge(xids ?? '{}', unconfirmed)).not.toBeNull();
}

const due = () => pending.due('delete', 10);
const nowDue = () => client.query('update cache_invalidation.pending set due_at = clock_timestamp()');

test('a target leaves the outbox and enters pending at one moment', async () => {
  const visible = async () =>
    (
      await other.query<{ in_outbox: number; in_pending: number }>(
        `select (select count(*)::int from cache_invalidation.outbox) as in_outbox,
                (select count(*)::int from cache_invalidation.pending) as in_pending`,
      )
    ).rows[0];
  await outbox.invalidate('a:1');
  const batch = await outbox.claim(null, 10);
  await client.query('begin');
  await outbox.acknowledge(batch.xids ?? '', [refused('a:1')]);
  expect(await visible()).toEqual({ in_outbox: 1, in_pending: 0 });
  await client.query('commit');
  expect(await visible()).toEqual({ in_outbox: 0, in_pending: 1 });
});

describe('a confirmation deletes only what was read before its DEL', () => {
  test('an event that comes during the DEL stays', async () => {
    await put([refused('a:1'), refused('a:2')]);
    const read = await due();
    await put([refused('a:1')]);
    await pending.confirm(read, 0);
    expect(await rows()).toMatchObject([{ target: 'a:1' }]);
    await pending.confirm(await due(), 0);
    expect(await rows()).toEqual([]);
  });

  test('so does one that comes after another worker has confirmed the same version', async () => {
    await put([refused('a:1')]);
    const read = await due();
    const alsoRead = await due();
    await pending.confirm(read, 0);
    await put([refused('a:1')]);
    await pending.confirm(alsoRead, 0);
    expect(await rows()).toMatchObject([{ target: 'a:1' }]);
  });

  test('and one that is being written meanwhile; the confirmation waits for nobody', async () => {
    await put([refused('a:1')]);
    const read = await due();
    await other.query('begin');
    await put([refused('a:1')], other);
    await pending.confirm(read, 0);
    await other.query('commit');
    expect(await rows()).toMatchObject([{ target: 'a:1' }]);
  });

  test.each(['commit', 'rollback'])(
    'an event waits for a confirmation in progress, and stays after its %s',
    async (end) => {
      await put([refused('a:1')]);
      const read = await due();
      await client.query('begin');
      await pending.confirm(read, 0);
      const written = put([refused('a:1')], other);
      await client.query(end);
      await written;
      expect(await rows()).toMatchObject([{ target: 'a:1' }]);
      await pending.confirm(read, 0);
      expect(await rows()).toMatchObject([{ target: 'a:1' }]);
    },
  );
});

describe('second deletions, for loaders on replicas', () => {
  const second = (target: string, waitMs: number): Unconfirmed => ({ target, why: 'second delete', waitMs });

  test('a confirmed first deletion becomes a second one, which no late confirmation of the first takes along', async () => {
    await put([refused('a:1')]);
    const read = await due();
    await pending.confirm(read, 60_000);
    expect(await rows()).toMatchObject([{ why: 'second delete', due: false }]);
    await pending.confirm(read, 60_000);
    expect(await rows()).toHaveLength(1);
    await nowDue();
    await pending.confirm(await due(), 60_000);
    expect(await rows()).toEqual([]);
  });

  test('come no earlier than the last event asks', async () => {
    await put([second('a:1', 0)]);
    await put([second('a:1', 60_000)]);
    expect(await rows()).toMatchObject([{ why: 'second delete', due: false }]);
    await put([second('a:1', 0)]);
    expect(await rows()).toMatchObject([{ due: false }]);
  });

  test('never replace a first one that is outstanding', async () => {
    await put([refused('a:1')]);
    await put([second('a:1', 60_000)]);
    expect(await rows()).toMatchObject([{ why: 'refused', due: true }]);
    await put([second('a:2', 60_000)]);
    await put([refused('a:2')]);
    expect(await rows()).toMatchObject([{ target: 'a:1' }, { target: 'a:2', why: 'refused', due: true }]);
  });

  test('of a pattern are sweeps again', async () => {
    await put([{ target: 'a*:x', why: 'sweep', waitMs: 0 }]);
    expect(await due()).toEqual([]);
    await pending.confirm(await pending.due('sweep', 1), 60_000);
    expect(await rows()).toMatchObject([{ why: 'second sweep', due: false }]);
  });
});

test('a target that is refused again and again becomes a dead letter, and stays', async () => {
  await put([refused('a:1')]);
  for (let attempt = 1; attempt <= 8; attempt++) {
    expect(await rows()).toMatchObject([{ attempts: attempt - 1, failed: false }]);
    await pending.refused(await due(), ['UPSTASH_REFUSED']);
    expect((await rows())[0]?.due).toBe(false);
    if (attempt < 8) await nowDue();
  }
  await nowDue();
  expect(await due()).toEqual([]);
  expect(await pending.nextDueMs('delete')).toBeNull();
  expect(await pending.counts()).toEqual({ due: 0, later: 0, failed: 1 });
  expect(await pending.failed(10)).toMatchObject([
    { target: 'a:1', why: 'refused', code: 'UPSTASH_REFUSED' },
  ]);
  expect(await pending.retryFailed()).toBe(1);
  expect(await rows()).toMatchObject([{ attempts: 0, failed: false, due: true }]);
});

test('the next event of a dead letter gives it new attempts', async () => {
  await put([refused('a:1')]);
  await client.query('update cache_invalidation.pending set failed_at = now(), attempts = 8');
  await put([refused('a:1')]);
  expect(await rows()).toMatchObject([{ attempts: 0, failed: false, due: true }]);
});

test('an interrupted sweep continues where it was, and begins anew when its pattern comes again', async () => {
  const sweep: Unconfirmed = { target: 'a*:x', why: 'sweep', waitMs: 0 };
  const state = { phase: 'entries', cursor: '42', deleted: 3 };
  await put([sweep]);
  const [read] = await pending.due('sweep', 1);
  await pending.save(read as PendingTarget, state);
  expect(await pending.due('sweep', 1)).toMatchObject([{ state }]);
  await put([sweep]);
  await pending.save(read as PendingTarget, state);
  expect(await pending.due('sweep', 1)).toMatchObject([{ state: null }]);
});

test('targets of any length and any characters are told apart', async () => {
  const long = 'x'.repeat(8_191);
  const targets = [`${long}1`, `${long}2`, 'a\\b', 'a\\\\b', 'a\\141', 'é', '*'];
  await put(targets.map((target) => refused(target)));
  await put(targets.map((target) => refused(target)));
  expect((await rows()).map(({ target }) => target).sort()).toEqual(targets.sort());
});

test('a settled backlog settles what is pending and as old, and nothing younger', async () => {
  await put([refused('a:1'), refused('a:2')]);
  const snapshot = await outbox.snapshot();
  await put([refused('a:2'), refused('a:3')]);
  await outbox.discard(snapshot, 10);
  expect(await rows()).toMatchObject([{ target: 'a:2' }, { target: 'a:3' }]);
  for (const target of ['a:4', 'a:5']) await outbox.invalidate(target);
  await client.query('select cache_invalidation.compact()');
  expect(await rows()).toEqual([]);
});
