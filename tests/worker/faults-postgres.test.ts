import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { cloneFrom, startTemplate } from '../support/template.ts';
import { startTcpProxy } from './support/tcp-proxy.ts';
import {
  asleep,
  killAllWorkers,
  type LogLine,
  leading,
  startWorkerProcess,
} from './support/worker-process.ts';
import { fenceOf, startWorkerStack, useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

const recovered = (line: LogLine) => Array.isArray(line.over);

async function superuser(database: string, work: (client: pg.Client) => Promise<void>): Promise<void> {
  const client = new pg.Client(database);
  client.on('error', () => undefined);
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

describe('a worker whose Postgres fails', () => {
  it('every session is ended repeatedly, while writes go on', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    const organisations = await stack.organisations(600);
    for (let start = 0; start < organisations.length; start += 200) {
      await stack.write(organisations.slice(start, start + 100));
      await stack.sql.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'fencepost%' and datname = current_database()",
      );
      await stack.write(organisations.slice(start + 100, start + 200));
    }
    await stack.fences.deleted(organisations.map(fenceOf));
    await asleep(worker, worker.lines.length);
    // A session that was ended is no pooler, and no server that is shutting down.
    expect(worker.lines.map(({ code }) => code)).not.toContain('TRANSACTION_POOLER');
    expect(worker.lines.map(({ code }) => code)).not.toContain('NOTIFICATIONS_LOST');
  });

  it.each(['locks', 'listen', 'drain', 'queue'])(
    'only the %s session is ended, while the worker sleeps',
    async (purpose) => {
      const worker = startWorkerProcess(stack.environment({ FENCEPOST_FALLBACK_POLL_SECONDS: '60' }));
      await asleep(worker);
      const [organisation = ''] = await stack.organisations(1);
      await stack.sql.query(
        'select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and datname = current_database()',
        [`fencepost:${purpose}`],
      );
      await stack.write([organisation]);
      await stack.fences.deleted([fenceOf(organisation)]);
      // And again once it sleeps.
      const [later = ''] = await stack.organisations(1);
      await stack.write([later]);
      await stack.fences.deleted([fenceOf(later)]);
    },
  );

  it('the connection is half-open: nothing arrives, nothing breaks', async () => {
    const proxy = await startTcpProxy(stack.databaseUrl);
    const worker = startWorkerProcess(stack.environment({ DATABASE_URL: proxy.through(stack.databaseUrl) }));
    await asleep(worker);
    proxy.set('blackhole');
    const organisations = await stack.organisations(30);
    await stack.write(organisations);
    await worker.line((line) => line.code === 'DATABASE_UNREACHABLE');
    expect((await fetch(`${await worker.url()}/readyz`)).status).toBe(503);
    proxy.set('pass');
    await stack.fences.deleted(organisations.map(fenceOf));
    await worker.line(recovered);
    await proxy.close();
  });

  it('LISTEN is lost silently: the fallback poll finds the rows, and the probe the loss', async () => {
    const proxy = await startTcpProxy(stack.databaseUrl);
    const worker = startWorkerProcess(
      stack.environment({
        DATABASE_URL: proxy.through(stack.databaseUrl),
        FENCEPOST_FALLBACK_POLL_SECONDS: '0.5',
      }),
    );
    await asleep(worker);
    proxy.set('deaf');
    const organisations = await stack.organisations(5);
    await stack.write(organisations);
    await stack.fences.deleted(organisations.map(fenceOf));
    const line = await worker.line((entry) => entry.code === 'NOTIFICATIONS_LOST');
    expect(line.msg).toContain('Notifications do not arrive');
    proxy.set('pass');
    const from = worker.lines.length;
    await asleep(worker, from);
    const later = await stack.organisations(5);
    await stack.write(later);
    await stack.fences.deleted(later.map(fenceOf));
    await proxy.close();
  });

  it('no connection is left: the worker recovers when one is free', async () => {
    const hoarders: pg.Client[] = [];
    const server = await startTemplate({ settings: { max_connections: '20' } });
    const database = await cloneFrom(server.url);
    const own = await startWorkerStack(database.url);
    try {
      const worker = startWorkerProcess(own.environment());
      await asleep(worker);
      const organisations = await own.organisations(50);
      // All connections but the superuser's, and then the worker's sessions are ended.
      await own.sql.query('alter role postgres connection limit -1');
      for (;;) {
        const client = new pg.Client(database.url);
        client.on('error', () => undefined);
        try {
          await client.connect();
          hoarders.push(client);
        } catch {
          break;
        }
      }
      await own.sql.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'fencepost%'",
      );
      for (let seat = 0; seat < 6; seat++) {
        const client = new pg.Client(database.url);
        client.on('error', () => undefined);
        await client.connect().then(
          () => hoarders.push(client),
          () => undefined,
        );
      }
      await own.write(organisations);
      await worker.line((line) => line.code === 'DATABASE_TOO_MANY_CONNECTIONS');
      await Promise.all(hoarders.map((client) => client.end()));
      await own.fences.deleted(organisations.map(fenceOf));
    } finally {
      await Promise.allSettled(hoarders.map((client) => client.end()));
      await killAllWorkers();
      await own.close();
      await server.stop();
    }
  });

  it('the server is restarted under load', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'fencepost-restart-'));
    rmSync(directory, { recursive: true });
    let server = await startTemplate({ directory });
    const port = Number(new URL(server.url).port);
    const database = await cloneFrom(server.url);
    const own = await startWorkerStack(database.url);
    try {
      const worker = startWorkerProcess(own.environment());
      await asleep(worker);
      const organisations = await own.organisations(400);
      await own.write(organisations.slice(0, 200));
      await server.stop();
      const { startPostgres } = await import('../../local/parts/postgres.ts');
      server = await startPostgres({ directory, port });
      await own.write(organisations.slice(200));
      await own.fences.deleted(organisations.map(fenceOf));
      await asleep(worker, worker.lines.length);
    } finally {
      await killAllWorkers();
      await own.close();
      await server.stop();
      rmSync(directory, { recursive: true, force: true });
    }
  });

  it('it fails over to a server with lower transaction ids: the position is reset', async () => {
    const first = await startTemplate();
    const second = await startTemplate();
    const before = await cloneFrom(first.url);
    const after = await cloneFrom(second.url);
    // The first server is far ahead: a position from there would skip every row of the second.
    await superuser(before.url, async (client) => {
      for (let count = 0; count < 3_000; count++) await client.query('select pg_current_xact_id()');
    });
    const proxy = await startTcpProxy(before.url);
    const old = await startWorkerStack(before.url);
    const now = await startWorkerStack(after.url);
    try {
      const through = proxy.through(before.url);
      // The second server gets a database with the first one's name.
      const name = new URL(before.url).pathname.slice(1);
      const renamed = new URL(after.url).pathname.slice(1);
      if (name !== renamed) {
        await now.sql.end();
        await superuser(second.url, async (client) => {
          await client.query(
            `select pg_terminate_backend(pid) from pg_stat_activity where datname = '${renamed}'`,
          );
          await client.query(`alter database ${renamed} rename to ${name}`);
        });
      }
      const password = new URL(first.url).password;
      await superuser(second.url, async (client) => {
        await client.query(`alter role postgres password '${password}'`);
      });
      const worker = startWorkerProcess(old.environment({ DATABASE_URL: through }));
      await asleep(worker);
      const organisations = await old.organisations(5);
      await old.write(organisations);
      await old.fences.deleted(organisations.map(fenceOf));

      proxy.redirect(second.url);
      proxy.cut();
      const target = new URL(second.url);
      target.pathname = `/${name}`;
      target.password = password;
      await old.fences.arm(['fence:quota:after-failover']);
      await superuser(target.href, async (client) => {
        await client.query(
          "insert into public.quotas (org_id, provider, model) values ('after-failover', 'openai', 'gpt')",
        );
      });
      await old.fences.deleted(['fence:quota:after-failover']);
    } finally {
      await killAllWorkers();
      await proxy.close();
      await Promise.allSettled([old.close(), now.fences.close(), now.gateway.stop(), now.redis.stop()]);
      await first.stop();
      await second.stop();
    }
  });

  it('the machine sleeps for an hour: the sessions are gone when it wakes up', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    worker.signal('SIGSTOP');
    // After an hour the server has ended the sessions and the heartbeat has expired.
    await stack.sql.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'fencepost%' and datname = current_database()",
    );
    const organisations = await stack.organisations(40);
    await stack.write(organisations);
    const from = worker.lines.length;
    worker.signal('SIGCONT');
    await stack.fences.deleted(organisations.map(fenceOf));
    await leading(worker, from);
  });

  it('the disk is full for the outbox: the write fails as a whole, and what is committed is applied', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    const organisations = await stack.organisations(20);
    // A limit that stands for a full disk: the statement cannot insert into the outbox.
    await stack.sql.query(
      "create function public.disk_is_full() returns trigger language plpgsql as $$ begin raise exception 'could not extend file' using errcode = 'disk_full'; end $$",
    );
    await stack.sql.query(
      'create trigger disk_is_full before insert on cache_invalidation.changes for each statement execute function public.disk_is_full()',
    );
    await stack.sql.query('alter table cache_invalidation.changes enable always trigger disk_is_full');
    const used = async () =>
      (
        await stack.sql.query<{ used: string }>(
          'select sum(used) as used from public.quotas where org_id = any($1)',
          [organisations],
        )
      ).rows[0]?.used;
    const before = await used();
    await expect(stack.write(organisations)).rejects.toMatchObject({ code: '53100' });
    expect(await used()).toBe(before);
    await stack.sql.query('drop trigger disk_is_full on cache_invalidation.changes');
    await stack.write(organisations);
    await stack.fences.deleted(organisations.map(fenceOf));
  });

  it('a writer keeps its transaction open: the others are delivered meanwhile, and it is when it commits', async () => {
    const worker = startWorkerProcess(stack.environment());
    await asleep(worker);
    await stack.sql.query('select cache_invalidation.invalidate($1)', ['quota:none:*']);
    const [held = '', ...others] = await stack.organisations(20);
    const client = await stack.sql.connect();
    // While the worker is awake, a writer shares the wake lock and keeps it.
    await client.query('begin');
    await client.query('update public.quotas set used = used + 1 where org_id = $1', [held]);
    await stack.write(others);
    await stack.fences.deleted(others.map(fenceOf));
    await client.query('commit');
    client.release();
    await stack.fences.deleted([fenceOf(held)]);
  });
});
