import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTcpProxy } from './support/tcp-proxy.ts';
import {
  asleep,
  leading,
  runCommand,
  startWorkerProcess,
  type WorkerProcess,
} from './support/worker-process.ts';
import { fenceOf, useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

const following = (worker: WorkerProcess) => worker.line((line) => line.role === 'following');

/** Milliseconds between two log lines, also of different processes on this machine. */
function between(earlier: number, line: Record<string, unknown>): number {
  return Date.parse(String(line.time)) - earlier;
}

/** Commits one write after the other until stopped. @returns the organisations that were written */
function keepWriting(organisations: readonly string[]): {
  stop(): Promise<string[]>;
  done: Promise<string[]>;
} {
  let stopped = false;
  const written: string[] = [];
  const done = (async () => {
    for (const organisation of organisations) {
      if (stopped) break;
      await stack.write([organisation]);
      written.push(organisation);
    }
    return written;
  })();
  return {
    done,
    stop: () => {
      stopped = true;
      return done;
    },
  };
}

describe('several workers', () => {
  it('one is killed: another takes over at its next try, and no invalidation is lost', async () => {
    const leader = startWorkerProcess(stack.environment());
    await asleep(leader);
    const others = [startWorkerProcess(stack.environment()), startWorkerProcess(stack.environment())];
    await Promise.all(others.map(following));
    const organisations = await stack.organisations(2_000);
    const writing = keepWriting(organisations);
    // The first batch may already be one line for many.
    await leader.line(({ msg }) => /^invalidated$|, one batch of /.test(msg));
    const killedAt = Date.now();
    leader.signal('SIGKILL');
    const next = await Promise.race(others.map((worker) => leading(worker)));
    // 2 s are promised; a machine that runs other tests needs more.
    expect(between(killedAt, next)).toBeLessThan(5_000);
    const written = await writing.stop();
    await stack.fences.deleted(written.map(fenceOf));
  });

  it('one is stopped (SIGSTOP): another ends its session; when it continues it does no harm', async () => {
    const leader = startWorkerProcess(stack.environment());
    await asleep(leader);
    const other = startWorkerProcess(stack.environment());
    await following(other);
    const stoppedAt = Date.now();
    leader.signal('SIGSTOP');
    const organisations = await stack.organisations(20);
    await stack.write(organisations);
    const taken = await leading(other);
    expect(between(stoppedAt, taken)).toBeLessThan(15_000);
    await stack.fences.deleted(organisations.map(fenceOf));

    const from = leader.lines.length;
    leader.signal('SIGCONT');
    await leader.line((line) => line.role === 'following', from);
    const later = await stack.organisations(20);
    await stack.write(later);
    await stack.fences.deleted(later.map(fenceOf));
  });

  it('one is cut off from the database, its sockets still open: another takes over', async () => {
    const proxy = await startTcpProxy(stack.databaseUrl);
    const leader = startWorkerProcess(stack.environment({ DATABASE_URL: proxy.through(stack.databaseUrl) }));
    await asleep(leader);
    const other = startWorkerProcess(stack.environment());
    await following(other);
    const cutAt = Date.now();
    proxy.set('blackhole');
    const organisations = await stack.organisations(20);
    await stack.write(organisations);
    const taken = await leading(other);
    expect(between(cutAt, taken)).toBeLessThan(15_000);
    await stack.fences.deleted(organisations.map(fenceOf));
    const from = leader.lines.length;
    proxy.set('pass');
    await leader.line((line) => line.role === 'following', from);
    await proxy.close();
  });

  it('a rolling deploy loses nothing: each worker is replaced while writes go on', async () => {
    let current = startWorkerProcess(stack.environment());
    await leading(current);
    const writing = keepWriting(await stack.organisations(4_000));
    for (let round = 0; round < 3; round++) {
      const next = startWorkerProcess(stack.environment());
      await following(next);
      current.signal('SIGTERM');
      expect(await current.exited).toBe(0);
      await leading(next);
      current = next;
    }
    const written = await writing.stop();
    await stack.fences.deleted(written.map(fenceOf));
    // A worker that stops has acknowledged what it applied.
    current.signal('SIGTERM');
    expect(await current.exited).toBe(0);
    const { rows } = await stack.sql.query('select count(*)::int as left from cache_invalidation.outbox');
    expect(rows).toEqual([{ left: 0 }]);
  });
});

describe('two workers with two logins, each only a member of fencepost_worker', () => {
  const as = (role: string) => {
    const url = new URL(stack.databaseUrl);
    url.username = role;
    url.password = 'p';
    return stack.environment({ DATABASE_URL: url.href });
  };
  const roles = ['blue_worker', 'green_worker'];
  beforeAll(async () => {
    for (const role of roles)
      await stack.sql.query(`create role ${role} login password 'p' in role fencepost_worker`);
  });
  afterAll(async () => {
    for (const role of roles) await stack.sql.query(`drop role ${role}`);
  });

  it('one leads, the other follows, doctor finds no foreign session, and one killed is replaced', async () => {
    const leader = startWorkerProcess(as('blue_worker'));
    await asleep(leader);
    const other = startWorkerProcess(as('green_worker'));
    await following(other);
    const warning = await other.line(({ msg }) => msg.includes('may not see whether it is alive'));
    expect(warning).toMatchObject({ level: 'warn', role: 'blue_worker' });
    expect(warning.msg).toContain('grant pg_read_all_stats, pg_signal_backend');
    const report = await runCommand(as('green_worker'), ['doctor', '--json']);
    const { findings } = report.json<{ findings: { name: string; verdict: string; detail: string }[] }>();
    expect(findings.filter(({ name }) => name === 'stranger')).toEqual([]);
    expect(findings.find(({ name }) => name === 'worker')).toMatchObject({
      verdict: 'ok',
      detail: expect.stringContaining('this role cannot see'),
    });
    leader.signal('SIGKILL');
    await leading(other);
    const organisations = await stack.organisations(3);
    await stack.write(organisations);
    await stack.fences.deleted(organisations.map(fenceOf));
    expect(other.lines.filter(({ role }) => role === 'contested')).toEqual([]);
  });

  it('one that is stopped, and that nobody may see or end, holds up writes for seconds only', async () => {
    const leader = startWorkerProcess(as('blue_worker'));
    await asleep(leader);
    const other = startWorkerProcess(as('green_worker'));
    await following(other);
    leader.signal('SIGSTOP');
    const organisations = await stack.organisations(3);
    await stack.write(organisations);
    await stack.fences.deleted(organisations.map(fenceOf));
    const warning = await other.line(({ msg }) => msg.includes('leaves rows in the outbox'));
    expect(warning).toMatchObject({ level: 'warn', role: 'blue_worker' });
  });

  it('one that is stopped is replaced by one that may see and end its session', async () => {
    await stack.sql.query('grant pg_read_all_stats, pg_signal_backend to green_worker');
    const leader = startWorkerProcess(as('blue_worker'));
    await asleep(leader);
    const other = startWorkerProcess(as('green_worker'));
    await following(other);
    leader.signal('SIGSTOP');
    await leading(other);
    expect(other.lines.filter(({ msg }) => msg.includes('may not see'))).toEqual([]);
  });
});
