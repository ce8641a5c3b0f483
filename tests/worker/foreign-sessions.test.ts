/** Foreign sessions on the advisory locks, in every mode: invalidations flow, and every report names the session and its end. */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Readiness } from '../../worker/src/http/readiness.ts';
import {
  asleep,
  killAllWorkers,
  leading,
  runCommand,
  startWorkerProcess,
  type WorkerProcess,
} from './support/worker-process.ts';
import { fenceOf, startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

const LEADER_LOCK = 461870002;
const WAKE_LOCK = 461870001;

let stack: WorkerStack;
const sessions: pg.Client[] = [];

beforeAll(async () => {
  stack = await startWorkerStack();
});
afterEach(async (test) => {
  await killAllWorkers(test);
  await Promise.all(sessions.splice(0).map((session) => session.end()));
});
afterAll(async () => {
  await stack.close();
});

async function foreignSession(): Promise<{ client: pg.Client; pid: number }> {
  const client = new pg.Client({ connectionString: stack.databaseUrl, application_name: 'somebody' });
  await client.connect();
  sessions.push(client);
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  return { client, pid: rows[0]?.pid ?? 0 };
}

async function writesAreApplied(): Promise<void> {
  const organisations = await stack.organisations(3);
  await stack.write(organisations);
  await stack.fences.deleted(organisations.map(fenceOf));
}

async function readiness(worker: WorkerProcess): Promise<Readiness> {
  return (await (await fetch(`${await worker.url()}/readyz`)).json()) as Readiness;
}

async function document<T>(...parameters: string[]): Promise<T> {
  return (await runCommand(stack.environment(), [...parameters, '--json'])).json<T>();
}

interface Found {
  readonly findings: readonly { name: string; verdict: string; detail: string; remedy?: string }[];
}

const leaderless = (worker: WorkerProcess) => worker.line(({ role }) => role === 'contested');

describe('the leader lock', () => {
  it.each([
    ['pg_advisory_lock', 'is held by'],
    ['pg_advisory_lock_shared', 'is held in shared mode by'],
  ])(
    'held by a foreign session through %s: the worker delivers, and every report names the session',
    async (take, how) => {
      const { client, pid } = await foreignSession();
      await client.query(`select ${take}($1)`, [LEADER_LOCK]);
      const worker = startWorkerProcess(stack.environment());
      await leaderless(worker);
      await writesAreApplied();
      const remedy = `select pg_terminate_backend(${pid});`;
      const line = await worker.line(({ level, msg }) => level === 'warn' && msg.includes('The leader lock'));
      expect(line).toMatchObject({ pid, application: 'somebody' });
      expect(line.msg).toContain(`${how} process ${pid}`);
      expect(line.msg).toContain(remedy);
      await expect.poll(() => readiness(worker)).toMatchObject({ ready: true });
      expect((await readiness(worker)).warnings.join()).toContain(remedy);

      const { findings } = await document<Found>('doctor');
      expect(findings.find(({ name }) => name === 'stranger')).toMatchObject({ verdict: 'fail', remedy });
      expect(findings.find(({ name }) => name === 'worker')).toMatchObject({
        verdict: 'warn',
        detail: expect.stringContaining('delivers without the leader lock'),
      });
      const status = await document<{ leader: unknown; contested: boolean; problems: string[] }>('status');
      expect(status).toMatchObject({ leader: null, contested: true });
      expect(status.problems.join()).toContain(remedy);

      await client.end();
      await leading(worker);
      await asleep(worker);
    },
  );

  it('of a leader that dies while a foreign session waits for it: the standby delivers all the same', async () => {
    const leader = startWorkerProcess(stack.environment());
    await asleep(leader);
    const standby = startWorkerProcess(stack.environment());
    await standby.line(({ role }) => role === 'following');
    const { client, pid } = await foreignSession();
    const waiting = client.query('select pg_advisory_lock_shared($1)', [LEADER_LOCK]);
    await expect
      .poll(async () => (await document<Found>('doctor')).findings)
      .toContainEqual(
        expect.objectContaining({
          name: 'stranger',
          detail: expect.stringMatching(`process ${pid} .* waits for the leader lock in shared mode`),
        }),
      );
    await leader.kill();
    await waiting;
    await leaderless(standby);
    await writesAreApplied();
  });

  it('held by a prepared transaction, which is no process', async () => {
    const { client } = await foreignSession();
    await client.query('begin');
    await client.query('select pg_advisory_xact_lock_shared($1)', [LEADER_LOCK]);
    await client.query("prepare transaction 'forgotten'");
    try {
      const worker = startWorkerProcess(stack.environment());
      await leaderless(worker);
      await writesAreApplied();
      expect((await readiness(worker)).warnings.join()).toContain('a prepared transaction');
    } finally {
      await client.query("rollback prepared 'forgotten'");
    }
  });
});

describe('the wake lock', () => {
  it('held in shared mode by a session without a transaction is found; a writer in its transaction is not', async () => {
    const writer = await foreignSession();
    const [organisation = ''] = await stack.organisations(1);
    await writer.client.query('begin');
    await writer.client.query('update public.quotas set used = used + 1 where org_id = $1', [organisation]);
    const { client, pid } = await foreignSession();
    await client.query('select pg_advisory_lock_shared($1)', [WAKE_LOCK]);
    const worker = startWorkerProcess(stack.environment());
    const line = await worker.line(({ msg }) => msg.includes('The wake lock is held in shared mode'));
    expect(line).toMatchObject({ pid, level: 'warn' });
    expect((await readiness(worker)).warnings.join()).toContain(`select pg_terminate_backend(${pid});`);
    const { findings } = await document<Found>('doctor');
    expect(findings.filter(({ name }) => name === 'stranger')).toMatchObject([
      { verdict: 'fail', detail: expect.stringContaining(`process ${pid} of role`) },
    ]);

    await client.end();
    await writer.client.query('commit');
    await worker.line(({ msg }) => msg.includes('No foreign session holds'));
    await asleep(worker);
    await stack.fences.deleted([fenceOf(organisation)]);
  });
});
