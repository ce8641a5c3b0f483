/** Loaders on read replicas: whatever deletes a target first, it is deleted again after the lag. */
import { it } from 'vitest';
import { asleep, type LogLine, startWorkerProcess } from './support/worker-process.ts';
import { useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

const newEpoch = (reason: RegExp) => (line: LogLine) =>
  line.msg.startsWith('New epoch') && reason.test(String(line.reason));

it('a backlog settled by a new epoch is followed by another one after the lag', async () => {
  await stack.sql.query(
    `insert into cache_invalidation.changes (change) select 'quota:b' || n || ':*' from generate_series(1, 1500) as n`,
  );
  const worker = startWorkerProcess(
    stack.environment({ FENCEPOST_BACKLOG_ROWS: '1000', FENCEPOST_REPLICA_LAG_SECONDS: '2' }),
  );
  const settled = await worker.line(newEpoch(/backlog/));
  // The row for * starts the second epoch; the queue starts another one after the lag.
  const asked = await worker.line(newEpoch(/asked for/), worker.lines.indexOf(settled));
  await worker.line(newEpoch(/asked for/), worker.lines.indexOf(asked) + 1);
});

it('a swept pattern is swept again after the lag', async () => {
  const worker = startWorkerProcess(stack.environment({ FENCEPOST_REPLICA_LAG_SECONDS: '2' }));
  await asleep(worker);
  await stack.fences.arm(['fence:quota:lag']);
  await stack.sql.query("select cache_invalidation.invalidate('quota:lag*:openai:*')");
  await stack.fences.deleted(['fence:quota:lag']);
  // A loader on a replica stores it again.
  await stack.fences.arm(['fence:quota:lag']);
  await stack.fences.deleted(['fence:quota:lag']);
});

it('a throttled target is deleted again after the lag, and so is an event that had to wait', async () => {
  await stack.sql.query(`create table public.gauges (id text primary key, v int default 0);
    insert into public.gauges values ('a');
    select cache_invalidation.watch('public.gauges', 'gauge:{id}', min_interval => '3 seconds')`);
  const worker = startWorkerProcess(stack.environment({ FENCEPOST_REPLICA_LAG_SECONDS: '2' }));
  await asleep(worker);
  const write = () => stack.sql.query('update public.gauges set v = v + 1');
  await stack.fences.arm(['fence:gauge:a']);
  await write();
  await stack.fences.deleted(['fence:gauge:a']);
  await stack.fences.arm(['fence:gauge:a']);
  // The second event merges into the second deletion; after that comes the second deletion of its own.
  await write();
  await stack.fences.deleted(['fence:gauge:a']);
  await stack.fences.arm(['fence:gauge:a']);
  await stack.fences.deleted(['fence:gauge:a']);
  await stack.sql.query(`select cache_invalidation.unwatch('public.gauges'); drop table public.gauges`);
});
