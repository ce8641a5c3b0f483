/**
 * The protocol of claim() against real concurrent transactions: whatever commits, in whatever order, is handed out;
 * what rolls back never is; and `drained` is true only when everything committed before the claim has been handed out.
 */
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { Outbox } from '../../worker/src/db/outbox.ts';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { randomBelow } from '../support/random.ts';
import { acknowledge, type Batch, claim } from './sql-worker.ts';

let database: ClonedDatabase;
let worker: pg.Client;

beforeAll(async () => {
  database = await cloneDatabase();
  worker = await connect();
  await worker.query(`create table public.jobs (name text);
    select cache_invalidation.watch('public.jobs', 'job:{name}')`);
});

beforeEach(async () => {
  await worker.query('delete from cache_invalidation.changes; delete from cache_invalidation.pending');
});

afterAll(async () => {
  await worker?.end();
  await database?.drop();
});

async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return client;
}

/** Each in a transaction of its own. */
async function insertEach(client: pg.Client, name: string, count: number): Promise<void> {
  await client.query(
    `do $$ begin for i in 1..${count} loop insert into public.jobs values ('${name}' || i); commit; end loop; end $$`,
  );
}

test.each([1, 2, 3])(
  'random transactions, small batches: none lost, none invented (seed %i)',
  async (seed) => {
    const random = randomBelow(seed * 7919);
    const committed = new Set<string>();
    const rolledBack = new Set<string>();
    const handedOut = new Set<string>();
    let working = true;

    async function write(number: number): Promise<void> {
      const client = await connect();
      for (let round = 0; round < 40; round += 1) {
        const names = Array.from(
          { length: 1 + random(6) },
          (_, index) => `${seed}-${number}-${round}-${index}`,
        );
        const lost: string[] = [];
        await client.query('begin');
        for (const name of names) {
          const inSavepoint = random(3) === 0;
          if (inSavepoint) await client.query('savepoint s');
          await client.query('insert into jobs values ($1), ($2)', [name, `${name}-too`]);
          if (inSavepoint && random(2) === 0) {
            await client.query('rollback to savepoint s');
            lost.push(name);
          }
          if (random(4) === 0) await client.query('select pg_sleep($1)', [random(8) / 1000]);
        }
        const commits = random(4) > 0;
        await client.query(commits ? 'commit' : 'rollback');
        for (const name of names) {
          const target = commits && !lost.includes(name) ? committed : rolledBack;
          target.add(`job:${name}`).add(`job:${name}-too`);
        }
      }
      await client.end();
    }

    const writers = Promise.all([0, 1, 2, 3, 4, 5].map(write)).finally(() => {
      working = false;
    });
    let position: string | null = null;
    let drainedBatches = 0;
    for (;;) {
      const wasWorking = working;
      const before = [...committed];
      const batch = await claim(worker, position, 1 + random(9));
      position = batch.position;
      for (const row of batch.rows) handedOut.add(row.target);
      // Some confirmations come late or never on this connection: those rows stay in the table.
      if (random(3) > 0) expect(await acknowledge(worker, batch.xids)).toBe(batch.changes);
      if (batch.drained) {
        drainedBatches += 1;
        expect(before.filter((target) => !handedOut.has(target))).toEqual([]);
        if (!wasWorking) break;
      }
    }
    await writers;
    expect(drainedBatches).toBeGreaterThan(1);
    expect([...committed].filter((target) => !handedOut.has(target))).toEqual([]);
    expect([...rolledBack].filter((target) => handedOut.has(target))).toEqual([]);
    expect(committed.size).toBeGreaterThan(500);
  },
);

test('a new position hands out again what was not acknowledged, and only that', async () => {
  await insertEach(worker, 'a', 3);
  const first = await claim(worker, null, 10);
  expect(first.drained).toBe(true);
  expect(first.rows).toHaveLength(3);
  const [one = '', ...others] = first.xids;
  expect(await acknowledge(worker, others)).toBe(2);
  expect((await claim(worker, first.position, 10)).xids).toEqual([]);
  const again = await claim(worker, null, 10);
  expect(again.xids).toEqual([one]);
  expect(await acknowledge(worker, again.xids)).toBe(1);
  expect(await acknowledge(worker, again.xids)).toBe(0);
});

test('a transaction that began first and commits last is not overlooked', async () => {
  const slow = await connect();
  await slow.query(`begin; insert into jobs values ('slow')`);
  await worker.query(`insert into jobs values ('fast')`);
  const first = await claim(worker, null, 10);
  expect(first.rows.map((row) => row.target)).toEqual(['job:fast']);
  await acknowledge(worker, first.xids);
  const second = await claim(worker, first.position, 10);
  expect(second).toMatchObject({ rows: [], drained: true });
  await slow.query('commit');
  const third = await claim(worker, second.position, 10);
  expect(third.rows.map((row) => row.target)).toEqual(['job:slow']);
  await slow.end();
});

test('batches are claimed ahead, and acknowledged late, in any order, or never: none is lost', async () => {
  await insertEach(worker, 'ahead-', 100);
  const batches: Batch[] = [];
  let position: string | null = null;
  do {
    const batch = await claim(worker, position, 30);
    position = batch.position;
    batches.push(batch);
    await worker.query('insert into jobs values ($1)', [`while-${batches.length}`]);
  } while (batches.length < 5);
  const handedOut = new Set(batches.flatMap((batch) => batch.rows.map((row) => row.target)));
  expect([...handedOut].filter((target) => target.startsWith('job:ahead-'))).toHaveLength(100);
  const [first, second, third, ...others] = batches;
  for (const batch of [...others, third, first]) await acknowledge(worker, batch?.xids ?? []);
  const again = await claim(worker, null, 1_000);
  expect(again.rows.map((row) => row.target)).toEqual(
    expect.arrayContaining(second?.rows.map((row) => row.target) ?? ['no second batch']),
  );
  const known = [...handedOut, ...Array.from({ length: 5 }, (_, index) => `job:while-${index + 1}`)];
  expect(again.rows.filter((row) => !known.includes(row.target))).toEqual([]);
});

test('whatever a target is made of, the worker reads it as it was written', async () => {
  const written = [
    'a,b',
    '"quoted"',
    '{x}',
    'back\\slash',
    'NULL',
    'null',
    ' space ',
    'line\nbreak',
    '\u{1f980}:é',
    'plain:*',
  ];
  const pool = new pg.Pool({ connectionString: database.url, max: 1 });
  const outbox = new Outbox(pool);
  try {
    for (const targets of [written, ['plain:*', 'other:1']]) {
      for (const target of targets) await outbox.invalidate(target);
      const batch = await outbox.claim(null, 100);
      expect(batch.targets.map(({ target }) => target).sort()).toEqual(targets.toSorted());
      expect(batch.targets[0]).toMatchObject({ watchId: null, op: null, error: null });
      await outbox.acknowledge(batch.xids ?? '{}');
    }
    expect(await outbox.claim(null, 100)).toMatchObject({ xids: null, changes: 0, targets: [] });
  } finally {
    await pool.end();
  }
});

test('one large transaction is a batch by itself while others go on', async () => {
  const slow = await connect();
  await slow.query(
    `begin; do $$ begin for i in 1..500 loop insert into jobs values ('bulk-' || i); end loop; end $$`,
  );
  await worker.query(`insert into jobs values ('first')`);
  let batch = await claim(worker, null, 50);
  await acknowledge(worker, batch.xids);
  await slow.query('commit');
  const bulk: Batch[] = [];
  const others = new Set<string>();
  for (let number = 0; number === 0 || !batch.drained; number += 1) {
    if (number < 100) await worker.query('insert into jobs values ($1)', [`between-${number}`]);
    batch = await claim(worker, batch.position, 50);
    await acknowledge(worker, batch.xids);
    if (batch.changes >= 500) bulk.push(batch);
    else for (const row of batch.rows) others.add(row.target);
    if (number > 200) throw new Error('delivery does not end');
  }
  expect(bulk).toHaveLength(1);
  expect(bulk[0]).toMatchObject({ changes: 500, xids: [expect.any(String)] });
  expect(new Set(bulk[0]?.rows.map((row) => row.target)).size).toBe(500);
  expect([...others].every((target) => target.startsWith('job:between-'))).toBe(true);
  await slow.end();
});

test('of a transaction with more than 1 000 targets a batch has the wildcard', async () => {
  await worker.query(`insert into jobs select 'x' || i from generate_series(1, 1001) as i`);
  await worker.query(`insert into jobs select 'y' || i from generate_series(1, 1000) as i`);
  const first = await claim(worker, null, 10);
  expect(first).toMatchObject({ changes: 1001, rows: [{ target: 'job:*', op: 'i' }] });
  const second = await claim(worker, first.position, 10);
  expect(second.changes).toBe(1000);
  expect(second.rows).toHaveLength(1000);
});

test('what names nothing is acknowledged all the same', async () => {
  await worker.query(`create table public.shops (id integer primary key, city text);
    create table public.shelves (id integer primary key, shop_id integer references public.shops);
    select cache_invalidation.watch('public.shelves', 'city:{s.city}', "join" => 'public.shops s on s.id = row.shop_id');
    delete from cache_invalidation.changes; insert into public.shelves values (1, null)`);
  const batch = await claim(worker, null, 10);
  expect(batch).toMatchObject({ changes: 1, xids: [expect.any(String)], rows: [] });
  expect(await acknowledge(worker, batch.xids)).toBe(1);
  await worker.query(
    `select cache_invalidation.unwatch('public.shelves'); drop table public.shelves, public.shops`,
  );
});

test('dead rows under a pinned snapshot and an open transaction id are not read again', async () => {
  const pinning = await connect();
  await pinning.query(`begin isolation level repeatable read; select count(*) from cache_invalidation.changes;
    create temporary table has_an_id (a integer)`);
  let position: string | null = null;
  const entriesRead = async (): Promise<number> => {
    await worker.query('select pg_stat_force_next_flush()');
    const { rows } = await worker.query<{ read: string }>(
      `select idx_tup_read as read from pg_stat_user_indexes where indexrelname = 'changes_xid'`,
    );
    return Number(rows[0]?.read);
  };
  const batch = async (): Promise<number> => {
    await insertEach(worker, 'j', 100);
    const before = await entriesRead();
    const batch = await claim(worker, position, 1000);
    position = batch.position;
    expect(batch.rows).toHaveLength(100);
    await acknowledge(worker, batch.xids);
    return (await entriesRead()) - before;
  };
  const first = await batch();
  for (let round = 0; round < 50; round += 1) await batch();
  const last = await batch();
  expect(first).toBeGreaterThanOrEqual(200);
  // The rows of the previous claim may be looked at once more, never all 5 000.
  expect(last).toBeLessThanOrEqual(first + 200);
  await pinning.query('rollback');
  await pinning.end();
});

test('a version that no change can name any more is deleted, with the function of its queries', async () => {
  // what has ended goes with the next declaration of any table
  const declare = async (call: string): Promise<string[]> => {
    await worker.query('delete from cache_invalidation.changes');
    await worker.query(`select cache_invalidation.${call}`);
    const { rows } = await worker.query<{ functions: string[]; versions: string[] }>(`
      select array(select p.proname::text from pg_proc as p
          where p.prorettype = 'cache_invalidation.outbox_target'::regtype and p.proname like 'targets\\_%' order by 1) as functions,
        array(select distinct cache_invalidation.target_function(v.id)::text from cache_invalidation.versions as v order by 1) as versions`);
    expect(rows[0]?.functions).toEqual(rows[0]?.versions);
    return rows[0]?.versions ?? [];
  };
  const before = await declare(`watch('public.jobs', 'job:{name}')`);
  const [added] = (await declare(`watch('public.jobs', 'other:{name}')`)).filter(
    (name) => !before.includes(name),
  );
  expect(added).toBeDefined();
  await declare(`unwatch('public.jobs', 'other:{name}')`);
  // other tests' transactions, of the same server, may be open for a while
  while ((await declare(`watch('public.jobs', 'job:{name}')`)).includes(added ?? ''));
});
