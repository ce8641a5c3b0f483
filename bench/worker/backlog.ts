/**
 * How fast a backlog of distinct targets is delivered row by row, and with how much memory; and how fast the same backlog is
 * settled by a new epoch, which is what the worker does by itself beyond 1 000 000 rows.
 *
 *     npx tsx bench/worker/backlog.ts [rows = 1000000]
 */
import { readFileSync } from 'node:fs';
import pg from 'pg';
import { now } from '../support/statistics.ts';
import { type Stack, startBenchWorker, startStack } from '../support/worker.ts';

const ROWS = Number(process.argv[2] ?? 1_000_000);

const stack = await startStack();
try {
  await fill(stack);
  const delivered = await measure(stack, { FENCEPOST_BACKLOG_ROWS: '100000000' });
  await fill(stack);
  const settled = await measure(stack, { FENCEPOST_BACKLOG_ROWS: String(Math.max(1_000, ROWS - 1)) });
  console.log(`${ROWS} rows, each with a target of its own`);
  console.table({ 'delivered row by row': delivered, 'settled by a new epoch': settled });
} finally {
  await stack.stop();
}

async function fill({ databaseUrl }: Stack): Promise<void> {
  const client = new pg.Client(databaseUrl);
  await client.connect();
  // A transaction is never divided, so each has as many rows as a small statement.
  await client.query(`do $$ begin
    for i in 0..${Math.ceil(ROWS / 100) - 1} loop
      insert into cache_invalidation.changes (change) select 'quota:org-' || i * 100 + n || ':*' from generate_series(1, 100) as n;
      commit;
    end loop; end $$`);
  await client.query('analyze cache_invalidation.changes');
  await client.end();
}

async function measure(on: Stack, environment: Record<string, string>): Promise<Record<string, string>> {
  const client = new pg.Client(on.databaseUrl);
  await client.connect();
  const worker = await startBenchWorker(on, { ...environment, REPORT_MEMORY: '1' }, false);
  const [gatewayBefore, redisBefore] = [cpuSeconds(on.gatewayPid), cpuSeconds(on.redisPid)];
  let memory = 0;
  let first = 0;
  let last = 0;
  worker.on((message) => {
    if (message.kind === 'memory') memory = message.rssMb;
    if (message.kind === 'state' && message.state === 'awake' && first === 0) first = now();
    if (message.kind === 'batch') last = Number(message.at) / 1e6;
  });
  await worker.asleep;
  const done = now();
  const backends = await client.query<{ pid: number }>(
    "select pid from pg_stat_activity where application_name = 'fencepost:drain' and datname = current_database()",
  );
  const cpu = {
    worker: cpuSeconds(worker.process.pid ?? 0),
    postgres: backends.rows.reduce((sum, row) => sum + cpuSeconds(row.pid), 0),
    gateway: cpuSeconds(on.gatewayPid) - gatewayBefore,
    redis: cpuSeconds(on.redisPid) - redisBefore,
  };
  const { rows } = await client.query<{ left: number }>(
    'select count(*)::int as left from cache_invalidation.changes',
  );
  await worker.stop();
  await client.end();
  const seconds = ((last || done) - first) / 1000;
  return {
    seconds: seconds.toFixed(2),
    'rows per second': Math.round(ROWS / seconds).toLocaleString('en'),
    'memory (RSS, most)': `${memory} MB`,
    ...Object.fromEntries(Object.entries(cpu).map(([name, value]) => [`CPU s, ${name}`, value.toFixed(1)])),
    'rows left': String(rows[0]?.left),
  };
}

/** Processor seconds that a process has used so far. They hold on a busy machine too. */
function cpuSeconds(pid: number): number {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return Number.NaN;
  }
}
