/**
 * The ids of the outbox may start again, as after a restore or when the sequence is at its end: claim() orders transactions,
 * and needs an id only to tell the rows of one transaction apart.
 */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { acknowledge, claim } from './sql-worker.ts';

let database: ClonedDatabase;
const clients: pg.Client[] = [];

beforeAll(async () => {
  database = await cloneDatabase();
  const client = await connect();
  await client.query(`delete from cache_invalidation.outbox; create table public.jobs (name text);
    select cache_invalidation.watch('public.jobs', 'job:{name}'); delete from cache_invalidation.outbox`);
});

afterAll(async () => {
  await Promise.all(clients.map((client) => client.end()));
  await database?.drop();
});

async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  clients.push(client);
  await client.connect();
  return client;
}

/** Writes so many jobs, in one statement each, and gives their targets. */
async function write(client: pg.Client, name: string, count: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, index) => `${name}-${index}`);
  for (const each of names) await client.query('insert into public.jobs values ($1)', [each]);
  return names.map((each) => `job:${each}`);
}

test('numbers that start again in the midst of transactions: none lost, none acknowledged for another', async () => {
  const [admin, worker, early] = [await connect(), await connect(), await connect()];
  const restartAt = (value: number) =>
    admin.query(`select setval('cache_invalidation.outbox_id_seq', $1, false)`, [value]);
  await restartAt(1_000_000);
  const expected = await write(await connect(), 'high', 5);
  await early.query('begin');
  expected.push(...(await write(early, 'early', 20)));

  let position: string | null = null;
  const handedOut: string[] = [];
  const numbers = new Map<string, number>();
  async function deliver(acknowledges: boolean): Promise<void> {
    for (;;) {
      const batch = await claim(worker, position, 3);
      position = batch.position;
      for (const { id, target } of batch.rows) {
        handedOut.push(target);
        numbers.set(id, (numbers.get(id) ?? 0) + 1);
      }
      if (acknowledges) expect(await acknowledge(worker, batch.rows)).toBe(batch.rows.length);
      if (batch.drained) return;
    }
  }
  await deliver(true);
  expect(handedOut).toHaveLength(5);

  // The early transaction goes on with lower numbers than it began with, and two others get the same ones.
  await restartAt(1);
  expected.push(...(await write(early, 'early-low', 30)));
  await restartAt(1);
  expected.push(...(await write(await connect(), 'same', 20)));
  await deliver(false);
  expect(handedOut).toHaveLength(25);
  await early.query('commit');
  await restartAt(1);
  expected.push(...(await write(await connect(), 'same-again', 20)));
  await deliver(true);

  expect([...handedOut].sort()).toEqual([...expected].sort());
  // The same numbers were in use several times, else this would show nothing.
  expect([...numbers.values()].filter((times) => times > 2).length).toBeGreaterThan(5);
  // What was never acknowledged is there still, though other rows with its numbers have gone.
  const { rows } = await admin.query<{ target: string }>('select target from cache_invalidation.outbox');
  expect(rows.map(({ target }) => target).sort()).toEqual(
    expected.filter((target) => /^job:same-\d/.test(target)).sort(),
  );
});
