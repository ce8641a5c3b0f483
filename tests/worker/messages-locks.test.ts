/** What the commands say while another session holds a lock on a table that they need: no network, no mistake of the caller's. */
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { explainDatabaseError } from '../../worker/src/db/errors.ts';
import { commandPool } from '../../worker/src/db/pool.ts';
import { ExitCode } from '../../worker/src/lib/errors.ts';
import { killAllWorkers, startWorkerProcess } from './support/worker-process.ts';
import { startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

let stack: WorkerStack;
let holder: pg.Client;
beforeAll(async () => {
  stack = await startWorkerStack();
});
beforeEach(async () => {
  holder = new pg.Client(stack.databaseUrl);
  await holder.connect();
});
afterEach(async (test) => {
  await killAllWorkers(test);
  await holder.end();
});
afterAll(() => stack?.close());

const lock = (table: string) => holder.query(`begin; lock table ${table} in access exclusive mode`);

it.each([['status'], ['invalidate', 'orders:1']])(
  'a lock on the outbox is no network: %s',
  async (...command) => {
    await lock('cache_invalidation.changes');
    const process = startWorkerProcess(stack.environment(), command);
    expect(await process.exited).toBe(ExitCode.unavailable);
    expect(process.stderr()).toContain('holds a lock');
    expect(process.stderr()).not.toContain('network');
  },
);

it('a lock on a table that a statement needs is no mistake in the statement: explain, watch', async () => {
  await stack.sql.query('create table public.locked (id int primary key)');
  await lock('public.quotas, public.locked');
  for (const command of [
    ['explain', 'update public.quotas set used = used'],
    // A table that is watched already needs no lock for one more watch.
    ['watch', 'public.locked', 'locked:{id}'],
  ]) {
    const process = startWorkerProcess(stack.environment(), command);
    expect(await process.exited).toBe(ExitCode.unavailable);
    expect(process.stderr()).toMatch(/lock.*try again/is);
  }
});

it('a lock that both connections of a pool wait for is no network either', async () => {
  await lock('cache_invalidation.changes');
  const pool = commandPool(stack.databaseUrl);
  try {
    const failures = await Promise.all(
      [0, 1].map(() => pool.query('select from cache_invalidation.outbox').catch((error: unknown) => error)),
    );
    const codes = failures.map((error) => explainDatabaseError(error, stack.databaseUrl).code);
    expect(codes.sort()).toEqual(['DATABASE_LOCKED', 'DATABASE_SLOW']);
  } finally {
    await pool.end();
  }
});

it('a lock on the queue’s tables is said, and is no missing migration', async () => {
  await lock('cache_invalidation_queue.job');
  const process = startWorkerProcess(stack.environment(), ['status']);
  expect(await process.exited).toBe(0);
  const text = process.lines.map(({ msg }) => msg).join('\n');
  expect(text).toContain('holds a lock');
  expect(text).not.toContain('migrations');
  const doctor = startWorkerProcess(stack.environment(), ['doctor']);
  expect(await doctor.exited).toBe(1);
  expect(doctor.lines.map(({ msg }) => msg).join('\n')).toMatch(/FAIL {2}queue .*holds a lock/);
});
