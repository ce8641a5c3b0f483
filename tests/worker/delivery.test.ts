import { createClient } from 'redis';
import { describe, expect, it } from 'vitest';
import { asleep, leading, ready, startWorkerProcess, type WorkerProcess } from './support/worker-process.ts';
import { fenceOf, useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

const invalidated = (target: string) => (line: { target?: unknown; msg: string }) =>
  line.msg === 'invalidated' && line.target === target;

async function readyz(worker: WorkerProcess): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await fetch(`${await worker.url()}/readyz`);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

describe('a worker', () => {
  it('turns a committed write into a confirmed DEL, and logs one line', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    const [organisation = ''] = await stack.organisations(1);
    await stack.write([organisation]);
    await stack.fences.deleted([fenceOf(organisation)]);
    const line = await worker.line(invalidated(`quota:${organisation}:*`));
    expect(line).toMatchObject({ table: 'quotas', operation: 'update' });
    expect(line.ms).toBeGreaterThan(0);
    // The worker sleeps again, and the outbox is empty.
    await asleep(worker, worker.lines.indexOf(line));
    const { rows } = await stack.sql.query('select count(*)::int as left from cache_invalidation.outbox');
    expect(rows).toEqual([{ left: 0 }]);
  });

  it('says in the database when it was last there, for people who have no worker to ask', async () => {
    await stack.sql.query('update cache_invalidation.epoch set confirmed_at = null');
    startWorkerProcess(stack.environment({ FENCEPOST_HEARTBEAT_SECONDS: '1' }));
    const confirmed = async (): Promise<Date | null> =>
      (await stack.sql.query('select confirmed_at from cache_invalidation.status')).rows[0]?.confirmed_at ??
      null;
    await expect.poll(confirmed).not.toBeNull();
    const first = await confirmed();
    await expect.poll(async () => (await confirmed())?.getTime()).not.toBe(first?.getTime());
  });

  it('delivers what was committed while no worker ran', async () => {
    const organisations = await stack.organisations(50);
    await stack.write(organisations);
    const worker = startWorkerProcess(stack.environment());
    await stack.fences.deleted(organisations.map(fenceOf));
    await asleep(worker);
  });

  it('applies a transaction of many writes as one batch with one DEL', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    const organisations = await stack.organisations(300);
    const from = worker.lines.length;
    await stack.sql.query('update public.quotas set used = used + 1 where org_id = any($1)', [organisations]);
    await stack.fences.deleted(organisations.map(fenceOf));
    const line = await worker.line((entry) => typeof entry.rows === 'number', from);
    expect(line).toMatchObject({ rows: 300, targets: 300 });
  });

  it('never invalidates what is rolled back', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    const [kept = '', undone = ''] = await stack.organisations(2);
    const client = await stack.sql.connect();
    await client.query('begin');
    await client.query('update public.quotas set used = used + 1 where org_id = $1', [undone]);
    await client.query('rollback');
    client.release();
    await stack.write([kept]);
    await stack.fences.deleted([fenceOf(kept)]);
    expect(stack.fences.missing()).toContain(fenceOf(undone));
  });

  it('delivers a write that was rolled back to a savepoint and repeated', async () => {
    const worker = startWorkerProcess(stack.environment({ FENCEPOST_FALLBACK_POLL_SECONDS: '60' }));
    await asleep(worker);
    const [organisation = ''] = await stack.organisations(1);
    const client = await stack.sql.connect();
    await client.query('begin');
    await client.query('savepoint one');
    await client.query('update public.quotas set used = used + 1 where org_id = $1', [organisation]);
    await client.query('rollback to savepoint one');
    await client.query('update public.quotas set used = used + 1 where org_id = $1', [organisation]);
    await client.query('commit');
    client.release();
    await stack.fences.deleted([fenceOf(organisation)]);
  });

  it('runs a target with a min_interval at once, and the last write of an interval when it is over', async () => {
    const worker = startWorkerProcess(stack.environment({ FENCEPOST_FALLBACK_POLL_SECONDS: '60' }));
    await asleep(worker);
    await stack.sql.query(
      "select cache_invalidation.watch('public.usage_events', 'usage:{org_id}:*', min_interval => '4 seconds')",
    );
    const insert = () => stack.sql.query("insert into public.usage_events (org_id) values ('rested')");
    const target = 'usage:rested:*';
    await insert();
    const first = await worker.line(invalidated(target));
    // The first is acknowledged: the target's interval begins.
    await asleep(worker, worker.lines.indexOf(first));
    await stack.fences.arm(['fence:usage:rested']);
    await insert();
    await insert();
    await insert();
    await stack.fences.deleted(['fence:usage:rested']);
    const second = await worker.line(invalidated(target), worker.lines.indexOf(first) + 1);
    // It waited for what was left of the interval, which began with the first acknowledgement.
    expect(second.ms).toBeGreaterThan(300);
    await asleep(worker, worker.lines.indexOf(second));
    const runs = worker.lines.filter(invalidated(target));
    expect(runs).toHaveLength(2);
  });

  it('answers * with a new epoch, in Postgres and in Redis', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    const epoch = async () =>
      (await stack.sql.query<{ value: string }>('select value from cache_invalidation.epoch')).rows[0]?.value;
    const before = await epoch();
    const from = worker.lines.length;
    await stack.sql.query("select cache_invalidation.invalidate('*')");
    await worker.line((line) => line.reason === 'asked for by the target *', from);
    const after = await epoch();
    expect(after).not.toBe(before);
    const cached = createClient({ url: stack.redis.url });
    await cached.connect();
    expect(await cached.mGet(['fencepost:epoch', 'fencepost:heartbeat'])).toEqual([after, after]);
    expect(await cached.ttl('fencepost:epoch')).toBe(-1);
    await cached.close();
  });

  it('is ready once invalidations flow, and has no more than six connections', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    await worker.line((line) => line.role === 'leading');
    await ready(worker);
    expect((await readyz(worker)).body).toMatchObject({
      ready: true,
      role: 'leading',
      listening: true,
      reasons: [],
    });
    expect((await fetch(`${await worker.url()}/healthz`)).status).toBe(200);
    const { rows } = await stack.sql.query<{ count: number }>(
      "select count(*)::int as count from pg_stat_activity where application_name like 'fencepost%' and datname = current_database()",
    );
    expect(rows[0]?.count).toBeLessThanOrEqual(6);
    const metrics = await (await fetch(`${await worker.url()}/metrics`)).text();
    expect(metrics).toMatch(/^fencepost_leading 1$/m);
    expect(metrics).toMatch(/^fencepost_commit_to_delete_seconds_count \d+$/m);
  });

  it.each(['SIGTERM', 'SIGINT'] as const)(
    'stops on %s with exit code 0 and leaves no session',
    async (signal) => {
      const worker = startWorkerProcess(stack.environment());
      await asleep(worker);
      worker.signal(signal);
      expect(await worker.exited).toBe(0);
      // A backend ends when it reads that its client is gone, which may be after the worker's exit.
      await expect
        .poll(
          async () =>
            (
              await stack.sql.query(
                "select application_name from pg_stat_activity where application_name like 'fencepost%' and datname = current_database() and pid <> pg_backend_pid()",
              )
            ).rows,
        )
        .toEqual([]);
    },
  );

  it('logs one readable line an invalidation on a terminal', async () => {
    const worker = startWorkerProcess(stack.environment({ FENCEPOST_LOG: 'pretty' }));
    await worker.line((line) => line.msg.includes('wakeup: asleep'));
    const [organisation = ''] = await stack.organisations(1);
    await stack.write([organisation]);
    const line = await worker.line((entry) => entry.msg.includes(`quota:${organisation}:*`));
    expect(line.msg).toMatch(/quotas\s+update\s+quota:org-\d+:\*\s+\d+\.\d ms/);
  });

  it('stands by while another leads, and both report whether invalidations flow', async () => {
    const leader = startWorkerProcess(stack.environment());
    await leading(leader);
    await ready(leader);
    const follower = startWorkerProcess(stack.environment());
    await follower.line((line) => line.role === 'following');
    expect(await readyz(follower)).toMatchObject({ status: 200, body: { role: 'following' } });
  });
});
