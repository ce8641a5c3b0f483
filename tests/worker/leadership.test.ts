/**
 * Leadership that is refused while nobody is seen at its lock. Postgres shows this only for the instant between a leader's
 * end and the look at the lock table, so the looks are made up here; the lock is real.
 */
import pg from 'pg';
import pino from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Leadership, type Role } from '../../worker/src/wakeup/leader-election.ts';
import { startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

const LEADERSHIP = 461870002;
/** A row of the lock table, as a leader's. */
const LEADER = {
  lock: String(LEADERSHIP),
  shared: false,
  granted: true,
  pid: 1,
  role: 'postgres',
  application: 'fencepost:locks',
  silent_ms: 0,
  other_role: false,
};

let stack: WorkerStack;
let holder: pg.Client;
let leadership: Leadership;
const roles: Role[] = [];
const warnings: string[] = [];

beforeAll(async () => {
  stack = await startWorkerStack();
});
beforeEach(async () => {
  roles.length = 0;
  warnings.length = 0;
  holder = new pg.Client(stack.databaseUrl);
  await holder.connect();
  await holder.query('select pg_advisory_lock($1)', [LEADERSHIP]);
});
afterEach(async () => {
  await leadership.stop();
  await holder.end();
});
afterAll(async () => {
  await stack.close();
});

/** @param look what the lock table shows at the look of this number, from 1 on */
function lead(look: (count: number) => object[]): void {
  let looks = 0;
  leadership = new Leadership({
    url: stack.databaseUrl,
    pool: { query: async () => ({ rows: look(++looks) }) } as unknown as pg.Pool,
    log: pino({ level: 'warn' }, { write: (line: string) => warnings.push(JSON.parse(line).msg) }),
    doorbell: {
      listener: { listening: false },
      drain: async () => ({ rows: 0, retryInMs: null, dueInMs: null }),
      pollInMs: () => 5_000,
      onState: () => undefined,
      onUnrung: () => undefined,
    },
    onRole: (role) => {
      if (roles.at(-1) !== role) roles.push(role);
    },
    onLost: () => undefined,
    onTrouble: () => undefined,
  });
  leadership.start();
}

describe('leadership that is refused with nobody seen', () => {
  it('is contested when it stays so: somebody has to drain', async () => {
    lead(() => []);
    await expect.poll(() => roles, { timeout: 30_000 }).toContain('contested');
    expect(roles).toEqual(['following', 'contested']);
    expect(leadership.contest).toContain('nobody is seen');
    expect(warnings).toEqual([leadership.contest]);
    await holder.query('select pg_advisory_unlock($1)', [LEADERSHIP]);
    await expect.poll(() => roles.at(-1), { timeout: 30_000 }).toBe('leading');
    expect(leadership.contest).toBeNull();
  });

  it('is followed while leaders hand over, however often', async () => {
    lead((count) => {
      // Three times nobody, then a leader, and again; then the lock is free.
      if (count === 7) void holder.query('select pg_advisory_unlock($1)', [LEADERSHIP]);
      return count % 4 === 0 ? [LEADER] : [];
    });
    await expect.poll(() => roles.at(-1), { timeout: 30_000 }).toBe('leading');
    expect(roles).toEqual(['following', 'leading']);
    expect(warnings).toEqual([]);
  });
});
