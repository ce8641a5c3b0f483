/**
 * A queue that does not work holds up nothing but what needs it: sweeps, refused targets, second deletes. Those are pending,
 * and are done when the queue is back.
 */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type RedisPart, startRedis } from '../../local/parts/redis.ts';
import { startTcpProxy, type TcpProxy } from './support/tcp-proxy.ts';
import {
  asleep,
  killAllWorkers,
  type LogLine,
  startWorkerProcess,
  type WorkerProcess,
} from './support/worker-process.ts';
import { fenceOf, startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

let stack: WorkerStack;
let queueRedis: RedisPart;
let proxy: TcpProxy;
beforeAll(async () => {
  stack = await startWorkerStack();
  queueRedis = await startRedis();
  proxy = await startTcpProxy(queueRedis.url);
});
afterEach(async (test) => {
  await killAllWorkers(test);
  proxy.set('pass');
  await stack.sql.query('delete from cache_invalidation.changes; delete from cache_invalidation.pending');
});
afterAll(async () => {
  await proxy.close();
  await queueRedis.stop();
  await stack.close();
});

interface ReadinessAnswer {
  readonly ready: boolean;
  readonly warnings: readonly string[];
}

const readyz = async (worker: WorkerProcess): Promise<ReadinessAnswer> =>
  (await (await fetch(`${await worker.url()}/readyz`)).json()) as ReadinessAnswer;

const rowsLeft = async (): Promise<number> => {
  const { rows } = await stack.sql.query<{ left: number }>(
    `select (select count(*) from cache_invalidation.outbox)::int
          + (select count(*) from cache_invalidation.pending)::int as left`,
  );
  return rows[0]?.left ?? 0;
};

/** A fence that only a sweep deletes, and the pattern of that sweep. */
let sweeps = 0;
async function sweepable(): Promise<{ pattern: string; fence: string }> {
  const name = `swept${++sweeps}`;
  const fence = `fence:quota:${name}`;
  await stack.fences.arm([fence]);
  return { pattern: `quota:${name}*:openai:*`, fence };
}

async function writesFlow(): Promise<void> {
  const organisations = await stack.organisations(3);
  for (const organisation of organisations) {
    await stack.write([organisation]);
    await stack.fences.deleted([fenceOf(organisation)]);
  }
}

const complains = (line: LogLine) => line.code === 'QUEUE_UNAVAILABLE';

describe.each(['refuse', 'blackhole'] as const)('the Redis of QUEUE_REDIS_URL: %s', (mode) => {
  it('holds up nothing else; what needs it is done when it is back', async () => {
    const worker = startWorkerProcess(stack.environment({ QUEUE_REDIS_URL: proxy.through(queueRedis.url) }));
    await asleep(worker);
    proxy.set(mode);
    const { pattern, fence } = await sweepable();
    await stack.sql.query('select cache_invalidation.invalidate($1)', [pattern]);
    await writesFlow();
    const complaint = await worker.line(complains);
    expect(complaint.level).toBe('error');
    await writesFlow();
    await expect.poll(rowsLeft).toBe(1);
    await expect
      .poll(() => readyz(worker))
      .toMatchObject({ ready: true, warnings: [expect.stringContaining('1 target waits for it')] });
    expect((await fetch(`${await worker.url()}/metrics`)).status).toBe(200);
    // It sleeps: a target that waits for the queue keeps nobody awake.
    await asleep(worker, worker.lines.length);
    proxy.set('pass');
    await stack.fences.deleted([fence]);
    await expect.poll(rowsLeft).toBe(0);
    await expect.poll(async () => (await readyz(worker)).warnings).toEqual([]);
  });

  it('ends in time, and the next worker does what waited', async () => {
    const environment = { QUEUE_REDIS_URL: proxy.through(queueRedis.url) };
    const first = startWorkerProcess(stack.environment(environment));
    await asleep(first);
    proxy.set(mode);
    const { pattern, fence } = await sweepable();
    await stack.sql.query('select cache_invalidation.invalidate($1)', [pattern]);
    await writesFlow();
    await expect.poll(rowsLeft).toBe(1);
    first.signal('SIGTERM');
    expect(await first.exited).toBe(0);
    expect(await rowsLeft()).toBe(1);
    proxy.set('pass');
    startWorkerProcess(stack.environment(environment));
    await stack.fences.deleted([fence]);
    await expect.poll(rowsLeft).toBe(0);
  });

  it.each(['status', 'retry'])('%s ends and says why', async (command) => {
    proxy.set(mode);
    const process = startWorkerProcess(
      stack.environment({ QUEUE_REDIS_URL: proxy.through(queueRedis.url) }),
      [command],
    );
    expect(await process.exited).not.toBe(70);
    expect(process.stderr() + process.lines.map((line) => line.msg).join('\n')).toContain('QUEUE_REDIS_URL');
  });
});

describe('a queue that never worked', () => {
  it.each([
    ['wants a password', ['--requirepass', 'right'], '', 'wants a password'],
    ['refuses the password', ['--requirepass', 'right'], 'wrong', 'refused the user or password'],
    ['is a replica', ['--replicaof', '127.0.0.1', '1'], '', 'is a replica'],
    ['is full', ['--maxmemory', '1', '--maxmemory-policy', 'noeviction'], '', 'no memory left'],
  ])('its Redis %s: that is said, and writes flow', async (_what, parameters, password, words) => {
    const broken = await startRedis({ arguments: parameters });
    try {
      const url = broken.url.replace('//', password === '' ? '//' : `//:${password}@`);
      const worker = startWorkerProcess(stack.environment({ QUEUE_REDIS_URL: url }));
      expect(await worker.line(complains)).toMatchObject({ msg: expect.stringContaining(words) });
      await writesFlow();
      expect((await readyz(worker)).warnings).toContainEqual(expect.stringContaining(words));
    } finally {
      await killAllWorkers();
      await broken.stop();
    }
  });

  it('an address where nothing answers is reported, and nothing else waits', async () => {
    const worker = startWorkerProcess(stack.environment({ QUEUE_REDIS_URL: 'redis://127.0.0.1:1' }));
    await asleep(worker);
    expect((await worker.line(complains)).level).toBe('error');
    await stack.sql.query('select cache_invalidation.invalidate($1)', [(await sweepable()).pattern]);
    await writesFlow();
    await expect.poll(rowsLeft).toBe(1);
  });

  it('without rights to the tables, delivery goes on', async () => {
    await stack.sql.query('drop role if exists without');
    await stack.sql.query("create role without login password 'w' in role fencepost_worker");
    await stack.sql.query(
      'revoke all on all tables in schema cache_invalidation_queue from fencepost_worker',
    );
    const url = new URL(stack.databaseUrl);
    url.username = 'without';
    url.password = 'w';
    const worker = startWorkerProcess(stack.environment({ DATABASE_URL: url.href }));
    await asleep(worker);
    await worker.line(complains);
    const { pattern, fence } = await sweepable();
    await stack.sql.query('select cache_invalidation.invalidate($1)', [pattern]);
    await writesFlow();
    // A worker whose delivery fails does not sleep.
    await asleep(worker, worker.lines.length);
    await expect.poll(rowsLeft).toBe(1);
    await stack.sql.query(
      'grant select, insert, update, delete on all tables in schema cache_invalidation_queue to fencepost_worker',
    );
    await stack.fences.deleted([fence]);
    await expect.poll(rowsLeft).toBe(0);
    await worker.kill();
    await stack.sql.query('drop role without');
  });

  it('with loaders on replicas writes are applied, and the second deletes follow when it works', async () => {
    proxy.set('refuse');
    const worker = startWorkerProcess(
      stack.environment({
        QUEUE_REDIS_URL: proxy.through(queueRedis.url),
        FENCEPOST_REPLICA_LAG_SECONDS: '1',
      }),
    );
    await asleep(worker);
    const organisations = await stack.organisations(3);
    await stack.write(organisations);
    await stack.fences.deleted(organisations.map(fenceOf));
    await asleep(worker, worker.lines.length);
    await expect.poll(rowsLeft).toBe(3);
    await stack.fences.arm(organisations.map(fenceOf));
    proxy.set('pass');
    await stack.fences.deleted(organisations.map(fenceOf));
    await expect.poll(rowsLeft).toBe(0);
  });
});
