import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { startGateway } from '../../local/gateway/gateway.ts';
import { asleep, describeLines, startWorkerProcess, type WorkerProcess } from './support/worker-process.ts';
import { fenceOf, useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

/** Starts a worker that must give up. @returns what it logged */
async function refusal(
  environment: Record<string, string>,
): Promise<{ code: number | string; text: string }> {
  const worker = startWorkerProcess(environment);
  const code = await worker.exited;
  return { code, text: `${worker.lines.map((line) => line.msg).join('\n')}\n${worker.stderr()}` };
}

const errorLine = (worker: WorkerProcess, code: string) => worker.line((line) => line.code === code);

describe('a wrong environment ends the worker with exit code 78 and one report', () => {
  it('names every problem at once', async () => {
    const { code, text } = await refusal({ PORT: 'eighty', LOG_LEVEL: 'loud' });
    expect(code).toBe(78);
    expect(text).toContain('5 problems');
    for (const name of [
      'DATABASE_URL',
      'UPSTASH_REDIS_REST_URL',
      'UPSTASH_REDIS_REST_TOKEN',
      'PORT',
      'LOG_LEVEL',
    ]) {
      expect(text).toMatch(new RegExp(`^  ${name} (is missing|must be)`, 'm'));
    }
  });

  it.each([
    ['', 'json'],
    ['json', 'json'],
    ['xml', 'json'],
    ['pretty', 'text'],
  ])('says so in the form of its log, and nowhere else (FENCEPOST_LOG=%s)', async (format, expected) => {
    const worker = startWorkerProcess({ FENCEPOST_LOG: format });
    expect(await worker.exited).toBe(78);
    expect(worker.stderr()).toBe('');
    if (expected === 'json') expect(worker.lines).toMatchObject([{ level: 'fatal', code: 'CONFIGURATION' }]);
    else expect(worker.lines.every((line) => line.level === 'text')).toBe(true);
    expect(worker.lines.map((line) => line.msg).join('\n')).toContain('DATABASE_URL is missing');
  });
});

describe('an error that cannot pass ends the worker with one sentence', () => {
  it('a wrong password', async () => {
    const url = new URL(stack.databaseUrl);
    url.password = 'wrong-and-secret';
    const { code, text } = await refusal(stack.environment({ DATABASE_URL: url.href }));
    expect(code).toBe(77);
    expect(text).toContain('refused the user or password of DATABASE_URL');
    expect(text).not.toContain('wrong-and-secret');
  });

  it('a database that does not exist', async () => {
    const url = new URL(stack.databaseUrl);
    url.pathname = '/nowhere';
    const { code, text } = await refusal(stack.environment({ DATABASE_URL: url.href }));
    expect(code).toBe(78);
    expect(text).toContain('There is no database of that name');
  });

  it('a database without the migrations', async () => {
    await stack.sql.query('create database bare template template0');
    try {
      const url = new URL(stack.databaseUrl);
      url.pathname = '/bare';
      const { code, text } = await refusal(stack.environment({ DATABASE_URL: url.href }));
      expect(code).toBe(78);
      expect(text).toContain('lacks Fencepost\'s migrations: run "npx supabase db push');
    } finally {
      await stack.sql.query('drop database bare with (force)');
    }
  });

  it('a role without rights', async () => {
    await stack.sql.query("create role powerless login password 'p'");
    try {
      const url = new URL(stack.databaseUrl);
      url.username = 'powerless';
      url.password = 'p';
      const { code, text } = await refusal(stack.environment({ DATABASE_URL: url.href }));
      expect(code).toBe(77);
      expect(text).toContain('grant fencepost_worker to');
    } finally {
      await stack.sql.query('drop role powerless');
    }
  });

  it('a wrong token', async () => {
    const { code, text } = await refusal(stack.environment({ UPSTASH_REDIS_REST_TOKEN: 'not-the-token' }));
    expect(code).toBe(77);
    expect(text).toContain('Upstash refused UPSTASH_REDIS_REST_TOKEN');
    expect(text).not.toContain('not-the-token');
  });

  it('a taken port', async () => {
    const { code, text } = await refusal(
      stack.environment({ PORT: new URL(stack.gateway.url).port, HOST: '127.0.0.1' }),
    );
    expect(code).toBe(78);
    expect(text).toMatch(/Port \d+ is taken/);
  });
});

describe('the worker waits for what may recover', () => {
  it('a database that is not there', async () => {
    const worker = startWorkerProcess(
      stack.environment({ DATABASE_URL: 'postgresql://postgres:secret1@127.0.0.1:1/postgres' }),
    );
    const line = await errorLine(worker, 'DATABASE_UNREACHABLE');
    expect(line.msg).toContain('No database answers at 127.0.0.1:1/postgres');
    expect(describeLines(worker.lines)).not.toContain('secret1');
    const ready = await fetch(`${await worker.url()}/readyz`);
    expect(ready.status).toBe(503);
    worker.signal('SIGTERM');
    expect(await worker.exited).toBe(0);
  });

  it('a host without an address', async () => {
    const worker = startWorkerProcess(
      stack.environment({ UPSTASH_REDIS_REST_URL: 'https://nothing.invalid' }),
    );
    const line = await worker.line((entry) => /UPSTASH_UNREACHABLE/.test(String(entry.code)));
    expect(line.msg).toContain('The host in UPSTASH_REDIS_REST_URL has no address');
  });

  it('a Redis that is not there: nothing is lost, and the worker recovers by itself', async () => {
    const gateway = await startGateway({ redisUrl: stack.redis.url, token: 'late' });
    const port = Number(new URL(gateway.url).port);
    await gateway.stop();
    const worker = startWorkerProcess(
      stack.environment({ UPSTASH_REDIS_REST_URL: gateway.url, UPSTASH_REDIS_REST_TOKEN: 'late' }),
    );
    const organisations = await stack.organisations(10);
    await stack.write(organisations);
    await errorLine(worker, 'UPSTASH_UNREACHABLE');
    expect((await fetch(`${await worker.url()}/readyz`)).status).toBe(503);
    const again = await startGateway({ redisUrl: stack.redis.url, token: 'late', port });
    await stack.fences.deleted(organisations.map(fenceOf));
    await worker.line((line) => Array.isArray(line.over));
    await again.stop();
  });
});

describe('noise from other roles', () => {
  it('a garbage NOTIFY only wakes the worker', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    await stack.sql.query('create role noisy');
    try {
      for (const garbage of ['{', 'null', '"x"', '\u{1F4A3}', 'x'.repeat(7_000), 'probe:0']) {
        const client = await stack.sql.connect();
        await client.query('set role noisy');
        await client.query('select pg_notify($1, $2)', ['cache_invalidation', garbage]);
        await client.query('reset role');
        client.release();
      }
      const organisations = await stack.organisations(3);
      await stack.write(organisations);
      await stack.fences.deleted(organisations.map(fenceOf));
      expect(worker.lines.filter((line) => line.level === 'error' || line.level === 'fatal')).toEqual([]);
    } finally {
      await stack.sql.query('drop role noisy');
    }
  });

  it.each([
    ['the leader lock', 461870002],
    ['the wake lock', 461870001],
  ])('a foreign session on %s does not stop the flow', async (_name, lock) => {
    await stack.sql.query('drop role if exists foreign_role');
    await stack.sql.query("create role foreign_role login password 's'");
    const url = new URL(stack.databaseUrl);
    url.username = 'foreign_role';
    url.password = 's';
    const session = new pg.Client(url.href);
    try {
      await session.connect();
      await session.query('select pg_advisory_lock($1)', [lock]);
      const worker = startWorkerProcess(stack.environment());
      const organisations = await stack.organisations(20);
      await stack.write(organisations);
      await stack.fences.deleted(organisations.map(fenceOf));
      if (lock === 461870002) {
        const line = await worker.line((entry) => entry.level === 'warn' && entry.role === 'foreign_role');
        expect(line.msg).toContain('which is no worker');
        await session.end();
        await worker.line((entry) => entry.role === 'leading');
      }
    } finally {
      await session.end().catch(() => undefined);
      await stack.sql.query('drop role foreign_role');
    }
  });
});
