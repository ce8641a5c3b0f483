import { createClient } from 'redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startGateway } from '../../local/gateway/gateway.ts';
import { openBackend } from '../../worker/src/queue/backend.ts';
import { type Processors, WorkQueue } from '../../worker/src/queue/work-queue.ts';
import { asleep, killAllWorkers, startWorkerProcess } from './support/worker-process.ts';
import { fenceOf, startWorkerStack, TOKEN, type WorkerStack } from './support/worker-stack.ts';

let stack: WorkerStack;
beforeAll(async () => {
  stack = await startWorkerStack();
});
afterEach(async (test) => {
  await killAllWorkers(test);
  // A worker that is killed after a DEL leaves its target pending.
  await stack.sql.query('delete from cache_invalidation.pending');
});
afterAll(async () => {
  await stack.close();
});

/** A promise that the test resolves. */
function gate<T = void>(): { promise: Promise<T>; open: (value: T) => void } {
  let open: (value: T) => void = () => undefined;
  const promise = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}

const nothing: Processors = {
  pending: async () => undefined,
  audit: async () => undefined,
  prune: async () => 0,
};

describe.each(['postgres', 'redis'] as const)('the queue on %s', (kind) => {
  let queue: WorkQueue;
  beforeEach(() => {
    queue = open();
  });
  afterEach(async () => {
    await queue.close(true);
    if (kind === 'redis') {
      const client = createClient({ url: stack.redis.url });
      await client.connect();
      const keys = await client.keys('bull:*');
      if (keys.length > 0) await client.del(keys);
      await client.close();
    } else
      await stack.sql.query(
        'truncate cache_invalidation_queue.job, cache_invalidation_queue.dedup, cache_invalidation_queue.dedup_next cascade',
      );
  });
  const open = () =>
    new WorkQueue(
      openBackend(
        { databaseUrl: stack.databaseUrl, queueRedisUrl: kind === 'redis' ? stack.redis.url : undefined },
        () => undefined,
      ),
      () => undefined,
    );

  it('works on jobs added before and after it started', async () => {
    const runs = [gate(), gate()];
    await queue.look();
    await queue.work({ ...nothing, pending: async () => runs.shift()?.open() });
    const [second] = runs.slice(-1);
    await expect.poll(() => runs.length).toBe(1);
    await queue.look();
    await second?.promise;
  });

  it('an equal job that waits suffices for any number of requests', async () => {
    for (let count = 0; count < 50; count++) await queue.look();
    expect((await queue.counts()).waiting).toBe(1);
  });

  it('takes a pause that is no whole number of milliseconds', async () => {
    await queue.look(60_000.25);
    expect((await queue.counts()).delayed).toBe(1);
  });

  it('a look that may not begin yet suppresses none that may, and none that is later', async () => {
    await queue.look(60_000);
    await queue.look(120_000);
    await queue.look();
    expect(await queue.counts()).toMatchObject({ waiting: 1, delayed: 2 });
  });

  it('a request during the run of an equal job is never dropped', async () => {
    const started = gate();
    const finish = gate();
    const second = gate();
    let runs = 0;
    await queue.look();
    await queue.work({
      ...nothing,
      pending: async () => {
        runs++;
        if (runs === 1) {
          started.open();
          await finish.promise;
        } else second.open();
      },
    });
    await started.promise;
    await queue.look();
    await queue.look();
    finish.open();
    await second.promise;
    expect(runs).toBe(2);
  });

  it('a request between two attempts of an equal job is never dropped', async () => {
    const failed = gate();
    let runs = 0;
    await queue.look();
    await queue.work({
      ...nothing,
      pending: async () => {
        if (++runs > 1) return;
        failed.open();
        throw new Error('half-way');
      },
    });
    await failed.promise;
    await queue.look();
    // The new job, and the first job's second attempt.
    await expect.poll(() => runs).toBe(3);
  });

  it('keeps a job that failed for good as a dead letter until it is retried', async () => {
    const again = gate();
    let fails = true;
    // A scheduled job has one attempt.
    await queue.schedule(3_600_000, 1);
    await queue.work({
      ...nothing,
      audit: async () => {
        if (fails) throw new Error('for good');
        again.open();
      },
    });
    await expect.poll(async () => (await queue.counts()).failed).toBe(1);
    expect(await queue.deadLetters(10)).toMatchObject([{ name: 'audit' }]);
    fails = false;
    expect(await queue.retryDeadLetters()).toBe(1);
    await again.promise;
    await expect.poll(async () => (await queue.counts()).failed).toBe(0);
  });
});

describe('the worker and its queue', () => {
  it('sweeps an arbitrary pattern: matching entries and their fences go, others stay', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    const client = createClient({ url: stack.redis.url });
    await client.connect();
    const entries = Array.from(
      { length: 3_000 },
      (_, index) => [`quota:s${index}:${index % 2 ? 'openai' : 'mistral'}:m`, '{}'] as [string, string],
    );
    await client.mSet(entries);
    await stack.fences.arm(['fence:quota:s1', 'quota:s1:openai:m', 'quota:s2999:openai:m']);
    await stack.sql.query("select cache_invalidation.invalidate('quota:*:openai:*')");
    await stack.fences.deleted(['fence:quota:s1', 'quota:s1:openai:m', 'quota:s2999:openai:m']);
    expect(await client.exists('quota:s2:mistral:m')).toBe(1);
    await client.close();
  });

  it('a refused target is retried apart while others flow, and is applied when Redis accepts it again', async () => {
    const admin = createClient({ url: stack.redis.url });
    await admin.connect();
    const acl = (keys: string) =>
      admin.sendCommand(['ACL', 'SETUSER', 'narrow', 'on', '>pw', '+@all', 'resetkeys', ...keys.split(' ')]);
    await acl('~*');
    const [bad = '', ...good] = await stack.organisations(40);
    const narrow = new URL(stack.redis.url);
    narrow.username = 'narrow';
    narrow.password = 'pw';
    const gateway = await startGateway({ redisUrl: narrow.href, token: TOKEN });
    const worker = startWorkerProcess(stack.environment({ UPSTASH_REDIS_REST_URL: gateway.url }));
    await asleep(worker);
    await acl(
      `~fencepost:* ~quota:* ${good.map((name) => `~fence:quota:${name} ~fence:quota:${name}:*`).join(' ')}`,
    );
    await stack.sql.query('update public.quotas set used = used + 1 where org_id = any($1)', [
      [bad, ...good],
    ]);
    await stack.fences.deleted(good.map(fenceOf));
    const aside = await worker.line((line) => line.level === 'warn' && line.target === `quota:${bad}:*`);
    expect(aside.code).toBe('UPSTASH_REFUSED');
    await asleep(worker, worker.lines.indexOf(aside));
    await expect
      .poll(async () => (await stack.sql.query('select from cache_invalidation.outbox')).rowCount)
      .toBe(0);
    expect(stack.fences.missing()).toContain(fenceOf(bad));
    await acl('~*');
    await stack.fences.deleted([fenceOf(bad)]);
    await worker.kill();
    await gateway.stop();
    await admin.close();
  });

  it('deletes a second time for loaders on replicas, also after kill -9', async () => {
    const first = startWorkerProcess(stack.environment({ FENCEPOST_REPLICA_LAG_SECONDS: '60' }));
    await asleep(first);
    const [organisation = ''] = await stack.organisations(1);
    await stack.write([organisation]);
    await stack.fences.deleted([fenceOf(organisation)]);
    const line = await first.line((entry) => entry.target === `quota:${organisation}:*`);
    await asleep(first, first.lines.indexOf(line));
    // A loader on a replica makes the fence again; only the second deletion counts.
    await stack.fences.arm([fenceOf(organisation)]);
    await first.kill();
    const { rowCount } = await stack.sql.query(
      "update cache_invalidation.pending set due_at = now() where why = 'second delete'",
    );
    expect(rowCount).toBe(1);
    startWorkerProcess(stack.environment({ FENCEPOST_REPLICA_LAG_SECONDS: '60' }));
    await stack.fences.deleted([fenceOf(organisation)]);
  });

  it('keeps its jobs in the Redis of QUEUE_REDIS_URL', async () => {
    const worker = startWorkerProcess(stack.environment({ QUEUE_REDIS_URL: stack.redis.url }));
    await asleep(worker);
    await stack.fences.arm(['quota:redis:openai:m', 'fence:quota:redis']);
    await stack.sql.query("select cache_invalidation.invalidate('quota:r*:openai:*')");
    await stack.fences.deleted(['quota:redis:openai:m', 'fence:quota:redis']);
  });

  it('a dead letter stays pending until it is retried, and is settled by a new epoch', async () => {
    const deadLetter = (target: string) =>
      stack.sql.query(
        `insert into cache_invalidation.pending (target, why, due_at, attempts, code, failed_at)
         values ($1, 'refused', now(), 8, 'UPSTASH_REFUSED', now())`,
        [target],
      );
    const left = async () => (await stack.sql.query('select from cache_invalidation.pending')).rowCount;
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    await stack.fences.arm(['fence:quota:dead']);
    await deadLetter('quota:dead:*');
    const status = startWorkerProcess(stack.environment(), ['status', '--json']);
    await status.exited;
    expect(JSON.parse(status.lines.map((line) => line.msg).join('\n'))).toMatchObject({
      queue: { failed: 1 },
    });
    const metrics = await (await fetch(`${await worker.url()}/metrics`)).text();
    expect(metrics).toContain('fencepost_queue_jobs{state="failed"} 1');
    expect(stack.fences.missing()).toContain('fence:quota:dead');
    const retry = startWorkerProcess(stack.environment(), ['retry']);
    expect(await retry.exited).toBe(0);
    expect(retry.lines.map((line) => line.msg).join('\n')).toContain('quota:dead:*');
    await stack.fences.deleted(['fence:quota:dead']);
    await expect.poll(left).toBe(0);
    await deadLetter('quota:dead:*');
    await stack.sql.query("select cache_invalidation.invalidate('*')");
    await expect.poll(left).toBe(0);
  });
});
