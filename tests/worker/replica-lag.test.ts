/** Loaders on replicas: only what is deleted again after the lag counts, whatever way it was deleted the first time. */
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { asleep, killAllWorkers, type LogLine, startWorkerProcess } from './support/worker-process.ts';
import { type Rig, startRig } from './support/worker-stack.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterEach((test) => killAllWorkers(test));
afterAll(async () => {
  await rig.close();
});

const newEpoch = (reason: RegExp) => (line: LogLine) =>
  line.msg.startsWith('New epoch') && reason.test(String(line.reason));

it('a backlog settled by a new epoch is followed by another one after the lag', async () => {
  await rig.sql.query(
    `insert into cache_invalidation.outbox (target) select 'quota:b' || n || ':*' from generate_series(1, 1500) as n`,
  );
  const worker = startWorkerProcess(
    rig.environment({ FENCEPOST_BACKLOG_ROWS: '1000', FENCEPOST_REPLICA_LAG_SECONDS: '2' }),
  );
  const settled = await worker.line(newEpoch(/backlog/));
  // The row for * that stands for the second one, and, by the queue, the second one itself.
  const asked = await worker.line(newEpoch(/asked for/), worker.lines.indexOf(settled));
  await worker.line(newEpoch(/asked for/), worker.lines.indexOf(asked) + 1);
});

it('a swept pattern is swept again after the lag', async () => {
  const worker = startWorkerProcess(rig.environment({ FENCEPOST_REPLICA_LAG_SECONDS: '2' }));
  await asleep(worker);
  await rig.fences.arm(['fence:quota:lag']);
  await rig.sql.query("select cache_invalidation.invalidate('quota:lag*:openai:*')");
  await rig.fences.deleted(['fence:quota:lag']);
  // A loader on a replica makes it again.
  await rig.fences.arm(['fence:quota:lag']);
  await rig.fences.deleted(['fence:quota:lag']);
});

it('a target with a min_interval is deleted again after the lag, its deferred run as well', async () => {
  await rig.sql.query(`create table public.gauges (id text primary key, v int default 0);
    insert into public.gauges values ('a');
    select cache_invalidation.watch('public.gauges', 'gauge:{id}', min_interval => '3 seconds')`);
  const worker = startWorkerProcess(rig.environment({ FENCEPOST_REPLICA_LAG_SECONDS: '1' }));
  await asleep(worker);
  const write = () => rig.sql.query('update public.gauges set v = v + 1');
  await rig.fences.arm(['fence:gauge:a']);
  await write();
  await rig.fences.deleted(['fence:gauge:a']);
  await expect
    .poll(async () => (await rig.sql.query('select from cache_invalidation.deferred')).rowCount, {
      timeout: 20_000,
    })
    .toBe(1);
  await write();
  // After this first run's second delete, the deferred run, and the second delete of that.
  for (let count = 0; count < 3; count++) {
    await rig.fences.arm(['fence:gauge:a']);
    await rig.fences.deleted(['fence:gauge:a']);
  }
  await rig.sql.query(`select cache_invalidation.unwatch('public.gauges'); drop table public.gauges`);
});
