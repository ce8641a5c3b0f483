/**
 * LEADER_LOCK is refused and no holder is seen. Postgres shows this only between a leader's end and the query of the lock table,
 * so the query's results are made up here. The lock is real.
 */
import pg from 'pg';
import pino from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { LeaderElection, type Role } from '../../worker/src/wakeup/leader-election.ts';
import { startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

const LEADER_LOCK = 461870002;
/** A row of the lock table, as a leader's. */
const LEADER = {
  lock: String(LEADER_LOCK),
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
let election: LeaderElection;
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
  await holder.query('select pg_advisory_lock($1)', [LEADER_LOCK]);
});
afterEach(async () => {
  await election.stop();
  await holder.end();
});
afterAll(async () => {
  await stack.close();
});

/** @param rowsOf the rows of the lock table's query number `count`, from 1 on */
function lead(rowsOf: (count: number) => object[]): void {
  let queries = 0;
  election = new LeaderElection({
    url: stack.databaseUrl,
    pool: { query: async () => ({ rows: rowsOf(++queries) }) } as unknown as pg.Pool,
    log: pino({ level: 'warn' }, { write: (line: string) => warnings.push(JSON.parse(line).msg) }),
    sleep: {
      listener: { listening: false },
      deliver: async () => ({ rows: 0, retryInMs: null, dueInMs: null }),
      pollInMs: () => 5_000,
      onState: () => undefined,
      onUnnotified: () => undefined,
    },
    onRole: (role) => {
      if (roles.at(-1) !== role) roles.push(role);
    },
    onLost: () => undefined,
    onError: () => undefined,
  });
  election.start();
}

describe('a refused lock without a visible holder', () => {
  it('makes the worker deliver leaderless after four refusals', async () => {
    lead(() => []);
    await expect.poll(() => roles).toContain('contested');
    expect(roles).toEqual(['following', 'contested']);
    expect(election.leaderless).toContain('no session holds it');
    expect(warnings).toEqual([election.leaderless]);
    await holder.query('select pg_advisory_unlock($1)', [LEADER_LOCK]);
    await expect.poll(() => roles.at(-1)).toBe('leading');
    expect(election.leaderless).toBeNull();
  });

  it('is followed while leaders replace each other, however often', async () => {
    lead((count) => {
      // Three times nobody, then a leader, and so on. At the seventh query the lock is freed.
      if (count === 7) void holder.query('select pg_advisory_unlock($1)', [LEADER_LOCK]);
      return count % 4 === 0 ? [LEADER] : [];
    });
    await expect.poll(() => roles.at(-1)).toBe('leading');
    expect(roles).toEqual(['following', 'leading']);
    expect(warnings).toEqual([]);
  });
});
