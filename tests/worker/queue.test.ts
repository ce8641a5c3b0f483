import { readFileSync } from 'node:fs';
import pg from 'pg';
import { createClient } from 'redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startGateway } from '../../local/gateway/gateway.ts';
import { queueMigration } from '../../worker/generate-queue-migration.mjs';
import { openBackend } from '../../worker/src/queue/backend.ts';
import { type Processors, WorkQueue } from '../../worker/src/queue/work-queue.ts';
import { asleep, killAllWorkers, startWorkerProcess } from './support/worker-process.ts';
import { fenceOf, type Rig, startRig, TOKEN } from './support/worker-stack.ts';

let rig: Rig;
beforeAll(async () => {
  rig = await startRig();
});
afterEach((test) => killAllWorkers(test));
afterAll(async () => {
  await rig.close();
});

/** A promise with its ends outside. */
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
  isolate: async () => undefined,
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
      const client = createClient({ url: rig.redis.url });
      await client.connect();
      const keys = await client.keys('bull:*');
      if (keys.length > 0) await client.del(keys);
      await client.close();
    } else
      await rig.sql.query(
        'truncate cache_invalidation_queue.job, cache_invalidation_queue.dedup, cache_invalidation_queue.dedup_next cascade',
      );
  });
  const open = () =>
    new WorkQueue(
      openBackend(
        { databaseUrl: rig.databaseUrl, queueRedisUrl: kind === 'redis' ? rig.redis.url : undefined },
        () => undefined,
      ),
      () => undefined,
    );

  it('works on what was added before and after it began', async () => {
    const done: string[] = [];
    const both = gate();
    await queue.add([sweepOf('a:*:x')]);
    await queue.work({
      ...nothing,
      sweep: async ({ pattern }) => {
        done.push(pattern);
        if (done.length === 2) both.open();
        return 0;
      },
    });
    await queue.add([sweepOf('b:*:x')]);
    await both.promise;
    expect(done.sort()).toEqual(['a:*:x', 'b:*:x']);
  });

  it('a twin that waits suffices for a thousand', async () => {
    for (let count = 0; count < 50; count++) await queue.add([sweepOf('same:*:x')]);
    expect((await queue.counts()).waiting).toBe(1);
  });

  it('what arrives while its twin runs is never dropped', async () => {
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

  it('what arrives between two attempts of its twin is never dropped', async () => {
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
        // The twin's second attempt goes on from its cursor; the newcomer must begin from the beginning.
        if (state === undefined) others.open();
        return 0;
      },
    });
    await failed.promise;
    await queue.add([sweepOf('hot:*:x')]);
    await others.promise;
  });

  it('keeps what failed for good as a dead letter, until it is put back to work', async () => {
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

  it('goes on from where an interrupted job was', async () => {
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
    const worker = startWorkerProcess(rig.environment());
    await asleep(worker);
    const client = createClient({ url: rig.redis.url });
    await client.connect();
    const entries = Array.from(
      { length: 3_000 },
      (_, index) => [`quota:s${index}:${index % 2 ? 'openai' : 'mistral'}:m`, '{}'] as [string, string],
    );
    await client.mSet(entries);
    await rig.fences.arm(['fence:quota:s1', 'quota:s1:openai:m', 'quota:s2999:openai:m']);
    await rig.sql.query("select cache_invalidation.invalidate('quota:*:openai:*')");
    await rig.fences.deleted(['fence:quota:s1', 'quota:s1:openai:m', 'quota:s2999:openai:m']);
    expect(await client.exists('quota:s2:mistral:m')).toBe(1);
    await client.close();
  });

  it('a target that Redis refuses is set aside, others flow; it is applied when Redis takes it again', async () => {
    const admin = createClient({ url: rig.redis.url });
    await admin.connect();
    const acl = (keys: string) =>
      admin.sendCommand(['ACL', 'SETUSER', 'narrow', 'on', '>pw', '+@all', 'resetkeys', ...keys.split(' ')]);
    await acl('~*');
    const [bad = '', ...good] = await rig.organisations(40);
    const narrow = new URL(rig.redis.url);
    narrow.username = 'narrow';
    narrow.password = 'pw';
    const gateway = await startGateway({ redisUrl: narrow.href, token: TOKEN });
    const worker = startWorkerProcess(rig.environment({ UPSTASH_REDIS_REST_URL: gateway.url }));
    await asleep(worker);
    await acl(
      `~fencepost:* ~quota:* ${good.map((name) => `~fence:quota:${name} ~fence:quota:${name}:*`).join(' ')}`,
    );
    await rig.sql.query('update public.quotas set used = used + 1 where org_id = any($1)', [[bad, ...good]]);
    await rig.fences.deleted(good.map(fenceOf));
    const aside = await worker.line((line) => line.level === 'warn' && line.target === `quota:${bad}:*`);
    expect(aside.code).toBe('UPSTASH_REFUSED');
    await asleep(worker, worker.lines.indexOf(aside));
    await expect
      .poll(async () => (await rig.sql.query('select from cache_invalidation.outbox')).rowCount, {
        timeout: 20_000,
      })
      .toBe(0);
    expect(rig.fences.missing()).toContain(fenceOf(bad));
    await acl('~*');
    await rig.fences.deleted([fenceOf(bad)]);
    await worker.kill();
    await gateway.stop();
    await admin.close();
  });

  it('deletes a second time for loaders on replicas, and keeps that promise across kill -9', async () => {
    const first = startWorkerProcess(rig.environment({ FENCEPOST_REPLICA_LAG_SECONDS: '1' }));
    await asleep(first);
    const [organisation = ''] = await rig.organisations(1);
    await rig.write([organisation]);
    await rig.fences.deleted([fenceOf(organisation)]);
    const line = await first.line((entry) => entry.target === `quota:${organisation}:*`);
    await asleep(first, first.lines.indexOf(line));
    // A loader on a replica makes the fence again; only the second deletion counts.
    await rig.fences.arm([fenceOf(organisation)]);
    await first.kill();
    startWorkerProcess(rig.environment({ FENCEPOST_REPLICA_LAG_SECONDS: '1' }));
    await rig.fences.deleted([fenceOf(organisation)]);
  });

  it('keeps its jobs in Redis when told to', async () => {
    const worker = startWorkerProcess(rig.environment({ QUEUE_REDIS_URL: rig.redis.url }));
    await asleep(worker);
    await rig.fences.arm(['quota:redis:openai:m', 'fence:quota:redis']);
    await rig.sql.query("select cache_invalidation.invalidate('quota:r*:openai:*')");
    await rig.fences.deleted(['quota:redis:openai:m', 'fence:quota:redis']);
  });
});

describe("the queue's migration", () => {
  it('is what the installed BullMQ carries', () => {
    const file = readFileSync(
      new URL('../../supabase/migrations/20261101020000_queue.sql', import.meta.url),
      'utf8',
    );
    expect(file).toBe(queueMigration());
  });

  it("can be used with the worker's role alone", async () => {
    await rig.sql.query('drop role if exists least');
    await rig.sql.query("create role least login password 'l' in role fencepost_worker");
    const url = new URL(rig.databaseUrl);
    url.username = 'least';
    url.password = 'l';
    const worker = startWorkerProcess(rig.environment({ DATABASE_URL: url.href }));
    await asleep(worker);
    await rig.fences.arm(['quota:least:openai:m', 'fence:quota:least']);
    await rig.sql.query("select cache_invalidation.invalidate('quota:l*:openai:*')");
    await rig.fences.deleted(['quota:least:openai:m', 'fence:quota:least']);
    expect(worker.lines.filter((line) => line.level === 'error')).toEqual([]);
    const other = new pg.Client(url.href);
    await other.connect();
    await expect(other.query('create schema mine')).rejects.toMatchObject({ code: '42501' });
    await other.end();
    await worker.kill();
    await rig.sql.query('drop role least');
  });
});
