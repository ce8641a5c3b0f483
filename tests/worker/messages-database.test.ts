/**
 * What the worker says of each fault of the database: a code, an exit code, and words that are true. Every fault is a real one of
 * a real server. A fault that waiting may mend has the exit code 69; one that it does not has 77 or 78.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { applyMigrations } from '../../local/parts/migrations.ts';
import { startPostgres } from '../../local/parts/postgres.ts';
import { explainDatabaseError } from '../../worker/src/db/errors.ts';
import { checkDatabase } from '../../worker/src/db/preconditions.ts';
import { ExitCode } from '../../worker/src/lib/errors.ts';
import { startTcpProxy } from './support/tcp-proxy.ts';
import { asleep, killAllWorkers, startWorkerProcess } from './support/worker-process.ts';
import { startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

const { unavailable, denied, configuration } = ExitCode;

let stack: WorkerStack;
let name: string;
beforeAll(async () => {
  stack = await startWorkerStack();
  name = new URL(stack.databaseUrl).pathname.slice(1);
});
afterEach((test) => killAllWorkers(test));
afterAll(() => stack?.close());

/** The stack's address with one thing wrong. */
const changed = (change: (url: URL) => void): string => {
  const url = new URL(stack.databaseUrl);
  change(url);
  return url.href;
};

const sql = (text: string) => stack.sql.query(text);

describe('the check before a start', () => {
  const check = async (url: string) => await checkDatabase(url).catch((error: unknown) => error);

  it.each([
    ['a wrong password', { password: 'wrong' }, ['DATABASE_REFUSED', denied, 'refused the user or password']],
    ['no password', { password: '' }, ['DATABASE_REFUSED', denied, 'DATABASE_URL has none']],
    ['an unknown role', { username: 'nobody' }, ['DATABASE_REFUSED', denied, 'refused the user or password']],
    [
      'a wrong database',
      { pathname: '/nowhere' },
      ['DATABASE_REFUSED', configuration, 'no database of that name'],
    ],
    [
      'a database without the migrations',
      { pathname: '/postgres' },
      ['DATABASE_NOT_MIGRATED', configuration, 'supabase db push'],
    ],
    [
      'TLS that the server does not speak',
      { search: '?sslmode=verify-full' },
      ['DATABASE_REFUSED', configuration, 'TLS with the database'],
    ],
    [
      'a host without an address',
      { hostname: 'nowhere.invalid' },
      ['DATABASE_UNREACHABLE', unavailable, 'has no address'],
    ],
    [
      'a port where nothing listens',
      { port: '1' },
      ['DATABASE_UNREACHABLE', unavailable, 'No database answers'],
    ],
  ] as const)('%s', async (_fault, change, [code, exitCode, words]) => {
    expect(await check(changed((url) => Object.assign(url, change)))).toMatchObject({
      code,
      exitCode,
      message: expect.stringContaining(words),
    });
  });

  it.each([
    ['role', 'alter role limited connection limit 1', 'The user of DATABASE_URL has no connection left'],
    ['database', 'alter database NAME connection limit 1', 'has reached its own limit'],
  ])('the limit of connections of the %s', async (_whose, limit, words) => {
    await sql('drop role if exists limited');
    await sql("create role limited login password 'limited' in role fencepost_worker");
    await sql(limit.replace('NAME', name));
    try {
      const url = changed((own) => {
        own.username = 'limited';
        own.password = 'limited';
      });
      expect(await check(url)).toMatchObject({
        code: 'DATABASE_TOO_MANY_CONNECTIONS',
        exitCode: unavailable,
        message: expect.stringContaining(words),
      });
    } finally {
      await sql(`alter database ${name} connection limit -1`);
      await sql('drop role limited');
    }
  });

  it.each([
    ['refuse', 'broke'],
    ['blackhole', 'does not answer in time'],
  ] as const)('a network in mode %s', async (mode, words) => {
    const proxy = await startTcpProxy(stack.databaseUrl);
    proxy.set(mode);
    try {
      expect(await check(proxy.through(stack.databaseUrl))).toMatchObject({
        code: 'DATABASE_UNREACHABLE',
        exitCode: unavailable,
        message: expect.stringContaining(words),
      });
    } finally {
      await proxy.close();
    }
  });

  it('a read-only default, which is no standby', async () => {
    await sql(`alter database ${name} set default_transaction_read_only = on`);
    try {
      const failure = await check(stack.databaseUrl);
      expect(failure).toMatchObject({ code: 'READ_ONLY_DATABASE', exitCode: unavailable });
      expect(failure).toMatchObject({
        message: expect.stringContaining('default_transaction_read_only is on'),
      });
      expect(String(failure)).not.toMatch(/standby|replica|primary/);
    } finally {
      await stack.sql.query(
        `begin read write; alter database ${name} reset default_transaction_read_only; commit`,
      );
    }
  });

  it('a standby, and an address that pg_hba.conf leaves out', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'fencepost-standby-'));
    await chmod(folder, 0o777);
    const directory = join(folder, 'cluster');
    try {
      const primary = await startPostgres({ directory });
      try {
        await applyMigrations(primary.url);
        const admin = new pg.Client(primary.url);
        await admin.connect();
        await admin.query("create role shut_out login password 'shut_out'");
        const { rows } = await admin.query<{ data: string; hba: string }>(
          "select current_setting('data_directory') as data, current_setting('hba_file') as hba",
        );
        const [{ data, hba } = { data: '', hba: '' }] = rows;
        await admin.query(
          `copy (values ('host all shut_out all reject'), ('host all all all scram-sha-256')) to '${hba}'`,
        );
        await admin.query('select pg_reload_conf()');
        const shutOut = new URL(primary.url);
        shutOut.username = shutOut.password = 'shut_out';
        await expect
          .poll(() => check(shutOut.href))
          .toMatchObject({
            code: 'DATABASE_REFUSED',
            exitCode: denied,
            message: expect.stringContaining('pg_hba.conf'),
          });
        await admin.query(`copy (select) to '${data}/standby.signal'`);
        await admin.end();
      } finally {
        await primary.stop();
      }
      const standby = await startPostgres({ directory });
      try {
        const failure = await check(standby.url);
        expect(failure).toMatchObject({ code: 'READ_ONLY_DATABASE', exitCode: unavailable });
        expect(failure).toMatchObject({ message: expect.stringContaining('is a standby') });
      } finally {
        await standby.stop();
      }
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe('a statement that fails', () => {
  /** What is said of the statement's failure; `meanwhile` runs once its session exists. */
  async function failure(
    statement: string,
    { before = 'select', meanwhile }: { before?: string; meanwhile?: (pid: number) => Promise<unknown> } = {},
  ) {
    const client = new pg.Client({ connectionString: stack.databaseUrl });
    client.on('error', () => undefined);
    await client.connect();
    try {
      const pid = (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid ?? 0;
      await client.query(before);
      const failed = client.query(statement).catch((error: unknown) => error);
      await meanwhile?.(pid);
      return explainDatabaseError(await failed, stack.databaseUrl);
    } finally {
      await client.end().catch(() => undefined);
    }
  }
  const running = async (pid: number) =>
    await expect
      .poll(
        async () => (await stack.sql.query('select state from pg_stat_activity where pid = $1', [pid])).rows,
      )
      .toEqual([{ state: 'active' }]);

  it.each([
    ['was cancelled', 'pg_cancel_backend', 'DATABASE_FAILED', 'due to user request'],
    ['lost its session', 'pg_terminate_backend', 'DATABASE_UNREACHABLE', 'ended a session of the worker'],
  ])('because an administrator ended it: it %s', async (_what, call, code, words) => {
    const said = await failure('select pg_sleep(60)', {
      meanwhile: async (pid) => {
        await running(pid);
        await stack.sql.query(`select ${call}($1)`, [pid]);
      },
    });
    expect(said).toMatchObject({ code, exitCode: unavailable, message: expect.stringContaining(words) });
    expect(said.message).not.toMatch(/pooler|load|shutting down or starting/);
  });

  it.each([
    ['took too long', 'set statement_timeout = 20', 'select pg_sleep(60)', 'DATABASE_SLOW', 'took too long'],
    [
      'found the default read-only',
      'set default_transaction_read_only = on',
      'delete from cache_invalidation.changes',
      'READ_ONLY_DATABASE',
      'default_transaction_read_only is on',
    ],
    [
      'found an older schema',
      'select',
      'select renamed from cache_invalidation.outbox',
      'DATABASE_NOT_MIGRATED',
      'supabase db push',
    ],
    [
      'found no right',
      'set role fencepost_worker',
      'select from public.quotas',
      'DATABASE_PRIVILEGE',
      'lacks a right',
    ],
    ['is in error', 'select', 'select 1/0', 'DATABASE_FAILED', 'division by zero (22012)'],
  ])('because it %s', async (_what, before, statement, code, words) => {
    const said = await failure(statement, { before });
    expect(said).toMatchObject({ code, message: expect.stringContaining(words) });
  });

  it('because its session was idle for too long: that is no network that does not answer', async () => {
    const client = new pg.Client(stack.databaseUrl);
    await client.connect();
    await client.query("set idle_session_timeout = '20ms'");
    const error = await new Promise((resolve) => client.on('error', resolve));
    const said = explainDatabaseError(error, stack.databaseUrl);
    expect(said).toMatchObject({ code: 'DATABASE_UNREACHABLE' });
    expect(said.message).toContain('idle_session_timeout');
  });
});

it('a worker without a session says why: /readyz and the log', async () => {
  const proxy = await startTcpProxy(stack.databaseUrl);
  try {
    const worker = startWorkerProcess(stack.environment({ DATABASE_URL: proxy.through(stack.databaseUrl) }));
    await asleep(worker);
    proxy.set('refuse');
    await worker.line(({ code }) => code === 'DATABASE_UNREACHABLE');
    const reasons = async () =>
      ((await (await fetch(`${await worker.url()}/readyz`)).json()) as { reasons: string[] }).reasons;
    await expect
      .poll(reasons)
      .toEqual(['No session with the database yet.', expect.stringContaining('broke')]);
    expect(worker.lines.map(({ code }) => code)).not.toContain('INTERNAL');
  } finally {
    await proxy.close();
  }
});

it('a worker that starts on a read-only database says so, waits, and goes on when that is over', async () => {
  const readyz = async () =>
    (await (await fetch(`${await worker.url()}/readyz`)).json()) as { ready: boolean; reasons: string[] };
  await sql(`alter database ${name} set default_transaction_read_only = on`);
  const worker = startWorkerProcess(stack.environment());
  try {
    expect(await worker.line(({ code }) => code === 'READ_ONLY_DATABASE')).toMatchObject({
      msg: expect.stringMatching(/default_transaction_read_only is on.*Trying again\.$/),
    });
    await expect.poll(readyz, { timeout: 20_000 }).toMatchObject({
      ready: false,
      reasons: expect.arrayContaining([expect.stringContaining('default_transaction_read_only is on')]),
    });
  } finally {
    await sql(`begin read write; alter database ${name} reset default_transaction_read_only; commit`);
  }
  // Sessions keep the default that they began with.
  await sql(`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name like 'fencepost%'`);
  await expect.poll(readyz, { timeout: 20_000 }).toMatchObject({ ready: true });
});
