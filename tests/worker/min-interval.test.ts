/** min_interval in a real worker: at once, then at most once in each interval, however large the burst. */
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type Rig, startRig } from './rig/rig.ts';
import { startUpstashFaults } from './rig/upstash-faults.ts';
import { asleep, killAllWorkers, startWorkerProcess } from './rig/worker-process.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterEach((test) => killAllWorkers(test));
afterAll(async () => {
  await rig.close();
});

it('a burst that fills several pages runs once', async () => {
  await rig.sql.query(`create table public.counters (id text primary key, v int default 0);
    insert into public.counters values ('a');
    select cache_invalidation.watch('public.counters', 'counter:{id}', min_interval => '1 hour')`);
  // Before the worker is there, so that the pages lie ready.
  await rig.sql.query(
    `do $$ begin for i in 1..9000 loop update public.counters set v = v + 1; end loop; end $$`,
  );
  const proxy = await startUpstashFaults(rig.gateway.url);
  const worker = startWorkerProcess(rig.environment({ UPSTASH_REDIS_REST_URL: proxy.url }));
  await asleep(worker);
  expect((await rig.sql.query('select from cache_invalidation.outbox')).rowCount).toBe(0);
  expect(proxy.requests.filter((body) => body.includes('"counter:a"'))).toHaveLength(1);
  const { rows } = await rig.sql.query(
    "select target, waiting, run from cache_invalidation.deferred where target = 'counter:a'",
  );
  expect(rows).toEqual([{ target: 'counter:a', waiting: true, run: null }]);
  await worker.kill();
  await proxy.close();
});
