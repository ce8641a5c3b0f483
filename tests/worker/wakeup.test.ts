/**
 * The sleep protocol under every kind of writer at once, without the fallback poll: only notifications and the awake worker's
 * polling can find a row. A row that only the fallback poll finds shows in a metric.
 */
import type pg from 'pg';
import { describe, expect, it } from 'vitest';
import { random } from '../support/random.ts';
import { asleep, startWorkerProcess } from './support/worker-process.ts';
import { fenceOf, useWorkerStack } from './support/worker-stack.ts';

const WRITES = 1_200;
const WRITERS = 6;

const stack = useWorkerStack();

type Write = (client: pg.PoolClient, organisation: string) => Promise<void>;
const update = 'update public.quotas set used = used + 1 where org_id = $1';

const KINDS: readonly Write[] = [
  // One statement.
  async (client, organisation) => {
    await client.query(update, [organisation]);
  },
  // A transaction that stays open for a few more statements after its write.
  async (client, organisation) => {
    await client.query('begin');
    await client.query(update, [organisation]);
    for (let count = 0; count < 5; count++) await client.query('select 1');
    await client.query('commit');
  },
  // The write is rolled back to a savepoint, which releases its share of the wake lock, and repeated.
  async (client, organisation) => {
    await client.query('begin');
    await client.query('savepoint s');
    await client.query(update, [organisation]);
    await client.query('rollback to savepoint s');
    await client.query(update, [organisation]);
    await client.query('commit');
  },
  // An inner savepoint releases a share of the wake lock; the row of the write remains.
  async (client, organisation) => {
    await client.query('begin');
    await client.query(update, [organisation]);
    await client.query('savepoint s');
    await client.query("select cache_invalidation.invalidate('quota:none:*')");
    await client.query('rollback to savepoint s');
    await client.query('commit');
  },
  // A write that is rolled back as a whole, then one that is not.
  async (client, organisation) => {
    await client.query('begin');
    await client.query(update, [organisation]);
    await client.query('rollback');
    await client.query(update, [organisation]);
  },
];

describe('the sleep protocol', () => {
  it.each([1, 2, 3])(
    'misses no write of six writers of five kinds, with pauses in which it falls asleep (seed %i)',
    async (seed) => {
      const worker = startWorkerProcess(stack.environment({ FENCEPOST_FALLBACK_POLL_SECONDS: '60' }));
      await asleep(worker);
      const organisations = await stack.organisations(WRITES);
      const next = random(seed);
      const lanes = Array.from({ length: WRITERS }, (_, lane) =>
        organisations.filter((_organisation, index) => index % WRITERS === lane),
      );
      await Promise.all(
        lanes.map(async (lane) => {
          const client = await stack.sql.connect();
          for (const organisation of lane) {
            const write = KINDS[Math.floor(next() * KINDS.length)] ?? update;
            if (typeof write === 'function') await write(client, organisation);
            // Sometimes the writer waits for its own invalidation, so that the worker may sleep.
            if (next() < 0.05) await stack.fences.deleted([fenceOf(organisation)]);
          }
          client.release();
        }),
      );
      await stack.fences.deleted(organisations.map(fenceOf));
      const metrics = await (await fetch(`${await worker.url()}/metrics`)).text();
      expect(metrics).toMatch(/^fencepost_doorbell_unrung_total 0$/m);
      // Both paths were taken: notifications while asleep, polling while awake.
      expect(Number(/^fencepost_doorbell_rings_total (\d+)$/m.exec(metrics)?.[1])).toBeGreaterThan(0);
      expect(worker.lines.filter((line) => line.state === 'awake').length).toBeGreaterThan(0);
    },
  );

  it('a prepared transaction cannot notify: the fallback poll finds its row', async () => {
    const worker = startWorkerProcess(stack.environment({ FENCEPOST_FALLBACK_POLL_SECONDS: '0.2' }));
    await asleep(worker);
    const { rows } = await stack.sql.query<{ most: string }>(
      "select current_setting('max_prepared_transactions') as most",
    );
    const [organisation = ''] = await stack.organisations(1);
    const client = await stack.sql.connect();
    await client.query('begin');
    await client.query('set local cache_invalidation.bell = off');
    await client.query(update, [organisation]);
    await client.query(rows[0]?.most === '0' ? 'commit' : "prepare transaction 'held'");
    if (rows[0]?.most !== '0') await client.query("commit prepared 'held'");
    client.release();
    await stack.fences.deleted([fenceOf(organisation)]);
  });

  it('writers do not notify while the worker is awake, and none waits for it', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    // Other databases of this server have workers of their own.
    const here =
      "locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())";
    const wakeLock = `select count(*)::int as held from pg_locks where ${here} and objid = 461870001 and mode = 'ExclusiveLock'`;
    const held = async () => (await stack.sql.query<{ held: number }>(wakeLock)).rows[0]?.held;
    expect(await held()).toBe(1);
    // A writer's open transaction keeps the wake lock from the worker, and nobody waits.
    const [first = '', ...others] = await stack.organisations(200);
    const client = await stack.sql.connect();
    const from = worker.lines.length;
    await stack.sql.query(
      "insert into cache_invalidation.changes (change) select 'quota:burst-' || n || ':*' from generate_series(1, 5000) as n",
    );
    await stack.write([first]);
    await worker.line((line) => line.state === 'awake', from);
    await client.query('begin');
    await client.query(update, [others[0]]);
    await stack.write(others.slice(1));
    await stack.fences.deleted(others.slice(1).map(fenceOf));
    const waiting = await stack.sql.query(
      `select count(*)::int as waiting from pg_locks where ${here} and not granted`,
    );
    expect(waiting.rows).toEqual([{ waiting: 0 }]);
    await client.query('commit');
    client.release();
    await stack.fences.deleted(others.slice(0, 1).map(fenceOf));
  });
});
