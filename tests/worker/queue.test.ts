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
afterEach((test) => killAllWorkers(test));
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

const sweepOf = (pattern: string) => ({ kind: 'sweep', pattern }) as const;

const nothing: Processors = {
  sweep: async () => 0,
  retry: async () => undefined,
  bisect: async () => undefined,
  'second-delete': async () => undefined,
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
    const done: string[] = [];
    const bothDone = gate();
    await queue.add([sweepOf('a:*:x')]);
    await queue.work({
      ...nothing,
      sweep: async ({ pattern }) => {
        done.push(pattern);
        if (done.length === 2) bothDone.open();
        return 0;
      },
    });
    await queue.add([sweepOf('b:*:x')]);
    await bothDone.promise;
    expect(done.sort()).toEqual(['a:*:x', 'b:*:x']);
  });

  it('an equal job that waits suffices for any number of requests', async () => {
    for (let count = 0; count < 50; count++) await queue.add([sweepOf('same:*:x')]);
    expect((await queue.counts()).waiting).toBe(1);
  });

  it('a request during the run of an equal job is never dropped', async () => {
    const started = gate();
    const finish = gate();
    const second = gate();
    let runs = 0;
    await queue.add([sweepOf('hot:*:x')]);
    await queue.work({
      ...nothing,
      sweep: async () => {
        runs++;
        if (runs === 1) {
          started.open();
          await finish.promise;
        } else second.open();
        return 0;
      },
    });
    await started.promise;
    await queue.add([sweepOf('hot:*:x')]);
    await queue.add([sweepOf('hot:*:x')]);
    finish.open();
    await second.promise;
    expect(runs).toBe(2);
  });

  it('a request between two attempts of an equal job is never dropped', async () => {
    const failed = gate();
    const others = gate();
    let fresh = 0;
    await queue.add([sweepOf('hot:*:x')]);
    await queue.work({
      ...nothing,
      sweep: async ({ state }, progress) => {
        if (state === undefined && fresh++ === 0) {
          await progress.save(
            { pattern: 'hot:*:x', state: { phase: 'entries', cursor: '7', deleted: 1 } },
            {},
          );
          failed.open();
          throw new Error('half-way');
        }
        // The first job's second attempt continues from its cursor; the new job must start from the beginning.
        if (state === undefined) others.open();
        return 0;
      },
    });
    await failed.promise;
    await queue.add([sweepOf('hot:*:x')]);
    await others.promise;
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
    await expect.poll(async () => (await queue.counts()).failed, { timeout: 20_000 }).toBe(1);
    expect(await queue.deadLetters(10)).toMatchObject([{ name: 'audit' }]);
    fails = false;
    expect(await queue.retryDeadLetters()).toBe(1);
    await again.promise;
    await expect.poll(async () => (await queue.counts()).failed, { timeout: 20_000 }).toBe(0);
  });

  it('continues an interrupted job where it was', async () => {
    const saved = gate();
    const resumed = gate<unknown>();
    const state = { phase: 'entries', cursor: '42', deleted: 3 } as const;
    await queue.add([sweepOf('long:*:x')]);
    await queue.work({
      ...nothing,
      sweep: async (job, progress) => {
        if (job.state === undefined) {
          await progress.save({ pattern: job.pattern, state }, state);
          saved.open();
          throw new Error('interrupted');
        }
        resumed.open(job.state);
        return 0;
      },
    });
    await saved.promise;
    expect(await resumed.promise).toEqual(state);
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
      .poll(async () => (await stack.sql.query('select from cache_invalidation.outbox')).rowCount, {
        timeout: 20_000,
      })
      .toBe(0);
    expect(stack.fences.missing()).toContain(fenceOf(bad));
    await acl('~*');
    await stack.fences.deleted([fenceOf(bad)]);
    await worker.kill();
    await gateway.stop();
    await admin.close();
  });

  it('deletes a second time for loaders on replicas, also after kill -9', async () => {
    const first = startWorkerProcess(stack.environment({ FENCEPOST_REPLICA_LAG_SECONDS: '1' }));
    await asleep(first);
    const [organisation = ''] = await stack.organisations(1);
    await stack.write([organisation]);
    await stack.fences.deleted([fenceOf(organisation)]);
    const line = await first.line((entry) => entry.target === `quota:${organisation}:*`);
    await asleep(first, first.lines.indexOf(line));
    // A loader on a replica makes the fence again; only the second deletion counts.
    await stack.fences.arm([fenceOf(organisation)]);
    await first.kill();
    startWorkerProcess(stack.environment({ FENCEPOST_REPLICA_LAG_SECONDS: '1' }));
    await stack.fences.deleted([fenceOf(organisation)]);
  });

  it('keeps its jobs in the Redis of QUEUE_REDIS_URL', async () => {
    const worker = startWorkerProcess(stack.environment({ QUEUE_REDIS_URL: stack.redis.url }));
    await asleep(worker);
    await stack.fences.arm(['quota:redis:openai:m', 'fence:quota:redis']);
    await stack.sql.query("select cache_invalidation.invalidate('quota:r*:openai:*')");
    await stack.fences.deleted(['quota:redis:openai:m', 'fence:quota:redis']);
  });
});
