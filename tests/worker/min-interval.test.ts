/** min_interval in a real worker: at once, then at most once in each interval, however large the burst. */
import { expect, it } from 'vitest';
import { explainDatabaseError } from '../../worker/src/db/errors.ts';
import { deliveryPool } from '../../worker/src/db/pool.ts';
import { OutboxVacuum } from '../../worker/src/db/vacuum.ts';
import { startUpstashFaults } from './support/upstash-faults.ts';
import { asleep, startWorkerProcess } from './support/worker-process.ts';
import { fenceOf, useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

it('a burst that fills several batches runs once', async () => {
  await stack.sql.query(`create table public.counters (id text primary key, v int default 0);
    insert into public.counters values ('a');
    select cache_invalidation.watch('public.counters', 'counter:{id}', min_interval => '1 hour')`);
  // Before the worker starts, so that the batches are full.
  await stack.sql.query(
    `do $$ begin for i in 1..9000 loop update public.counters set v = v + 1; commit; end loop; end $$`,
  );
  const proxy = await startUpstashFaults(stack.gateway.url);
  const worker = startWorkerProcess(stack.environment({ UPSTASH_REDIS_REST_URL: proxy.url }));
  await asleep(worker);
  expect((await stack.sql.query('select from cache_invalidation.outbox')).rowCount).toBe(0);
  const runs = proxy.requests.filter((body) => body.includes('"counter:a"'));
  expect(runs, JSON.stringify(worker.lines)).toHaveLength(1);
  const { rows } = await stack.sql.query(
    'select target, why, due_at > now() as waits from cache_invalidation.pending',
  );
  expect(rows).toEqual([{ target: 'counter:a', why: 'throttled', waits: true }]);
  await worker.kill();
  await proxy.close();
});

it('a locked row of one target delays no other, and is not reported as a slow database', async () => {
  const [organisation = ''] = await stack.organisations(1);
  const worker = startWorkerProcess(stack.environment());
  await asleep(worker);
  const session = await stack.sql.connect();
  try {
    await session.query(
      "begin; update cache_invalidation.pending set code = code where target = 'counter:a'",
    );
    // The first event runs at once: this worker is new. The second would have to wait in the locked row.
    for (let events = 0; events < 2; events++) {
      await stack.fences.arm(['fence:counter:a']);
      await stack.sql.query('update public.counters set v = v + 1');
      if (events === 0) await stack.fences.deleted(['fence:counter:a']);
    }
    await stack.write([organisation]);
    await stack.fences.deleted(['fence:counter:a', fenceOf(organisation)]);
    await expect
      .poll(async () => (await stack.sql.query('select from cache_invalidation.outbox')).rowCount)
      .toBe(0);
    expect(worker.lines.filter(({ level }) => level === 'warn' || level === 'error')).toEqual([]);
  } finally {
    await session.query('rollback');
    session.release();
  }
});

it('a lock on a whole table is reported as a lock, and no backend keeps waiting for it', async () => {
  const worker = startWorkerProcess(stack.environment());
  await asleep(worker);
  const session = await stack.sql.connect();
  try {
    await session.query('begin; lock table cache_invalidation.changes in access exclusive mode');
    const { msg } = await worker.line(({ code }) => code === 'DATABASE_LOCKED');
    expect(msg).toContain('pg_terminate_backend');
    const { rows } = await stack.sql.query(
      "select count(*)::int as count from pg_stat_activity where application_name = 'fencepost:drain' and datname = current_database()",
    );
    expect(rows[0]?.count).toBeLessThanOrEqual(2);
    expect(worker.lines.filter(({ code }) => code === 'DATABASE_UNREACHABLE')).toEqual([]);
  } finally {
    await session.query('rollback');
    session.release();
  }
});

it('what waits outlives its worker: the next one runs it when it is due', async () => {
  await stack.fences.arm(['fence:counter:a']);
  await stack.sql.query(
    "update cache_invalidation.pending set due_at = now() + interval '1 second' where target = 'counter:a'",
  );
  const worker = startWorkerProcess(stack.environment());
  await stack.fences.deleted(['fence:counter:a']);
  await asleep(worker);
  await expect
    .poll(async () => (await stack.sql.query('select from cache_invalidation.pending')).rowCount)
    .toBe(0);
});

it('under writes without end a target runs once in each interval', async () => {
  await stack.sql.query(
    `select cache_invalidation.watch('public.counters', 'brief:{id}', min_interval => '1 second')`,
  );
  const proxy = await startUpstashFaults(stack.gateway.url);
  const worker = startWorkerProcess(stack.environment({ UPSTASH_REDIS_REST_URL: proxy.url }));
  await asleep(worker);
  const runs = () => proxy.requests.filter((body) => body.includes('"brief:a"')).length;
  const startedAt = performance.now();
  while (runs() < 4) await stack.sql.query('update public.counters set v = v + 1');
  expect(performance.now() - startedAt).toBeGreaterThan(2_900);
  await worker.kill();
  await proxy.close();
});

it('the server ends statements of the delivery before the client gives up, and what is pending is vacuumed with the outbox', async () => {
  const pool = deliveryPool(stack.databaseUrl, () => undefined);
  try {
    const { rows } = await pool.query<{ name: string; ms: number }>(
      `select name, setting::int as ms from pg_settings where name in ('lock_timeout', 'statement_timeout')
        and setting::int between 1 and $1 order by name`,
      [(pool.options.query_timeout ?? 0) - 1],
    );
    expect(rows.map(({ name }) => name)).toEqual(['lock_timeout', 'statement_timeout']);
    expect(rows[0]?.ms).toBeLessThan(rows[1]?.ms ?? 0);
    const cancelled = await pool
      .query('set statement_timeout = 1; select pg_sleep(60)')
      .catch((error) => error);
    expect(explainDatabaseError(cancelled, stack.databaseUrl).code).toBe('DATABASE_SLOW');
    await pool.query('set statement_timeout = 12000');
    new OutboxVacuum(pool).deleted(20_000);
    await expect
      .poll(
        async () =>
          (
            await stack.sql.query(
              "select vacuum_count::int as times from pg_stat_user_tables where schemaname = 'cache_invalidation' and relname in ('changes', 'pending') and vacuum_count > 0",
            )
          ).rowCount,
      )
      .toBe(2);
  } finally {
    await pool.end();
  }
});
