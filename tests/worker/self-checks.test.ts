import pg from 'pg';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { Readiness } from '../../worker/src/http/readiness.ts';
import { startUpstash } from '../support/upstash.ts';
import {
  asleep,
  leading,
  ready,
  runCommand,
  startWorkerProcess,
  type WorkerProcess,
} from './support/worker-process.ts';
import { fenceOf, useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

const line = (worker: WorkerProcess, text: string) => worker.line(({ msg }) => msg.includes(text));

async function readiness(worker: WorkerProcess): Promise<{ status: number; body: Readiness }> {
  const answer = await fetch(`${await worker.url()}/readyz`);
  return { status: answer.status, body: (await answer.json()) as Readiness };
}

const metric = async (worker: WorkerProcess, name: string) =>
  new RegExp(`^fencepost_${name} (\\d+)$`, 'm').exec(
    await (await fetch(`${await worker.url()}/metrics`)).text(),
  )?.[1];

async function status(): Promise<{ workers: number; unfit: number }> {
  return (await runCommand(stack.environment(), ['status', '--json'])).json();
}

describe('a standby', () => {
  it('that can take over is ready', async () => {
    await ready(startWorkerProcess(stack.environment()));
    const standby = startWorkerProcess(stack.environment());
    await standby.line(({ role }) => role === 'following');
    expect(await readiness(standby)).toMatchObject({ status: 200, body: { reasons: [], warnings: [] } });
    expect(await status()).toMatchObject({ workers: 2, unfit: 0 });
  });

  it('whose Redis is out of reach says so, in its log, /readyz, the metrics and status', async () => {
    await asleep(startWorkerProcess(stack.environment()));
    const standby = startWorkerProcess(stack.environment({ UPSTASH_REDIS_REST_URL: 'http://127.0.0.1:1' }));
    await line(standby, 'This standby could not take over');
    const { status: code, body } = await readiness(standby);
    expect(code).toBe(503);
    expect(body).toMatchObject({ role: 'following' });
    expect(body.reasons.join(' ')).toContain('UPSTASH_REDIS_REST_URL');
    expect(await metric(standby, 'standby_unfit')).toBe('1');
    await expect.poll(status).toMatchObject({ workers: 2, unfit: 1 });
    await standby.kill();
    await expect.poll(status).toMatchObject({ workers: 1, unfit: 0 });
  });

  it('with another Redis than the leader’s says so', async () => {
    const { gateway, stop } = await startUpstash();
    onTestFinished(stop);
    await asleep(startWorkerProcess(stack.environment()));
    const standby = startWorkerProcess(stack.environment({ UPSTASH_REDIS_REST_URL: gateway.url }));
    expect(await line(standby, 'could not take over')).toMatchObject({ code: 'STANDBY_REDIS_DIFFERS' });
  });

  it('that becomes the leader is judged as one', async () => {
    const leader = startWorkerProcess(stack.environment());
    await asleep(leader);
    const standby = startWorkerProcess(stack.environment({ UPSTASH_REDIS_REST_URL: 'http://127.0.0.1:1' }));
    await line(standby, 'could not take over');
    await leader.kill();
    await leading(standby);
    await expect.poll(() => metric(standby, 'standby_unfit')).toBe('0');
    const { body } = await readiness(standby);
    expect(body.reasons.join(' ')).not.toContain('standby');
  });
});

describe('a foreign session on the wake lock', () => {
  it('is named once, with the remedy, and until it is gone', async () => {
    const session = new pg.Client({ connectionString: stack.databaseUrl, application_name: 'somebody' });
    await session.connect();
    await session.query('select pg_advisory_lock(461870001)');
    const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
    const pid = rows[0]?.pid;
    const worker = startWorkerProcess(stack.environment());
    expect(await line(worker, 'wake lock is held')).toMatchObject({
      pid,
      role: 'postgres',
      application: 'somebody',
      msg: expect.stringContaining(`select pg_terminate_backend(${pid})`),
    });
    const { status: code, body } = await readiness(worker);
    expect(code).toBe(200);
    expect(body.warnings.join(' ')).toContain(`process ${pid} of role postgres (somebody)`);
    // Counted when the other checks of this turn have ended.
    await expect.poll(() => metric(worker, 'doorbell_lock_held_by_stranger')).toBe('1');

    await session.end();
    await line(worker, 'No foreign session holds');
    expect((await readiness(worker)).body.warnings).toEqual([]);
    expect(worker.lines.filter(({ msg }) => msg.includes('wake lock is held'))).toHaveLength(1);
  });
});

describe('capture that has ended', () => {
  it('is a reason in /readyz and in doctor, a metric and a line of the log, until it is mended', async () => {
    await stack.sql.query(
      'alter table public.quotas disable trigger all; alter event trigger fencepost_rewrite disable',
    );
    const worker = startWorkerProcess(stack.environment());
    expect(await line(worker, 'Writes may be missed')).toMatchObject({
      level: 'error',
      severity: 'error',
      msg: expect.stringMatching(/triggers are missing or disabled: public\.quotas .*refresh\(\);/),
    });
    await line(worker, 'DDL is not seen always');
    const { status: code, body } = await readiness(worker);
    expect(code).toBe(503);
    expect(body.reasons).toEqual([
      expect.stringContaining('triggers are missing or disabled: public.quotas'),
    ]);
    expect(body.warnings).toEqual([expect.stringContaining('fencepost_rewrite')]);
    const problems = (severity: string) => metric(worker, `capture_problems\\{severity="${severity}"\\}`);
    expect(await problems('error')).toBe('1');
    expect(await problems('warning')).toBe('1');
    const doctor = startWorkerProcess(stack.environment(), ['doctor']);
    expect(await doctor.exited).toBe(1);
    expect(doctor.lines.map(({ msg }) => msg).join('\n')).toContain(
      'triggers are missing or disabled: public.quotas',
    );

    await stack.sql.query(
      'alter event trigger fencepost_rewrite enable always; select cache_invalidation.refresh()',
    );
    const changedAt = performance.now();
    await line(worker, 'No longer: triggers are missing or disabled');
    expect(performance.now() - changedAt).toBeLessThan(60_000);
    await line(worker, 'No longer: DDL is not seen always');
    expect(await readiness(worker)).toMatchObject({ status: 200, body: { reasons: [], warnings: [] } });
    expect(await problems('error')).toBe('0');
    expect(worker.lines.filter(({ msg }) => msg.includes('Writes may be missed'))).toHaveLength(1);
  });

  it('by pause() is a reason too; resume_capture() ends it and invalidates everything', async () => {
    const [organisation = ''] = await stack.organisations(1);
    await stack.sql.query('select cache_invalidation.pause()');
    const worker = startWorkerProcess(stack.environment());
    await line(worker, 'Writes may be missed: capture has been paused since');
    const { status: code, body } = await readiness(worker);
    expect(code).toBe(503);
    expect(body.reasons).toEqual([expect.stringMatching(/has been paused since .*resume_capture\(\);/)]);
    const doctor = await runCommand(stack.environment(), ['doctor']);
    expect(doctor.code).toBe(1);
    expect(doctor.text).toContain('capture has been paused since');
    await stack.write([organisation]);
    await asleep(worker);
    expect(stack.fences.missing()).toEqual([fenceOf(organisation)]);

    const before = worker.lines.length;
    await stack.sql.query('select cache_invalidation.resume_capture()');
    await worker.line(({ msg }) => msg.startsWith('New epoch'), before);
    expect((await runCommand(stack.environment(), ['doctor'])).text).not.toContain('paused');
    await stack.write([organisation]);
    await stack.fences.deleted([fenceOf(organisation)]);
  });

  it('is noticed while a migration holds a watched table, for which the check does not wait', async () => {
    const migration = new pg.Client({ connectionString: stack.databaseUrl });
    await migration.connect();
    try {
      await migration.query('begin; lock table public.quotas in access exclusive mode');
      await stack.sql.query('alter table public.sessions disable trigger all');
      const worker = startWorkerProcess(stack.environment());
      await line(worker, 'triggers are missing or disabled: public.sessions');
      await stack.sql.query(`insert into public.model_prices (provider, model) values ('held', 'up')`);
      await expect
        .poll(
          async () =>
            (await stack.sql.query('select count(*)::int as n from cache_invalidation.outbox')).rows,
        )
        .toEqual([{ n: 0 }]);
    } finally {
      await migration.end();
      await stack.sql.query('select cache_invalidation.refresh()');
    }
  });
});
