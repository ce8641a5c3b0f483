/** The server's queue of notifications is shared by all its databases and roles; whoever fills it must not stop watched writes. */
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Part } from '../../local/parts/part.ts';
import { type ClonedDatabase, cloneFrom, startTemplate } from '../support/template.ts';

let server: Part & { url: string };
let database: ClonedDatabase;

beforeAll(async () => {
  // The least that Postgres takes: half a megabyte instead of eight gigabytes.
  server = await startTemplate({ settings: { max_notify_queue_pages: '64' } });
  database = await cloneFrom(server.url);
});
afterAll(async () => {
  await database?.drop();
  await server?.stop();
});

async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return client;
}

test('a full queue fails no watched write while the worker sleeps, and loses no target', async () => {
  const [application, worker, idler, noisy] = await Promise.all([connect(), connect(), connect(), connect()]);
  try {
    await application.query(`create table public.jobs (name text);
      select cache_invalidation.watch('public.jobs', 'job:{name}'); delete from cache_invalidation.changes`);
    await worker.query('select pg_advisory_lock(cache_invalidation.doorbell_lock())');
    // What is sent after a listener's transaction began cannot be forgotten before it ends.
    await idler.query('listen z');
    await idler.query('begin; select 1');
    const usage = async () =>
      Number((await noisy.query('select pg_notification_queue_usage() as usage')).rows[0].usage);
    const fill = () =>
      noisy.query(`select pg_notify('z', repeat('x', 7000) || i) from generate_series(1, 8) as i`);
    while ((await usage()) < 0.6) await fill();
    await application.query(`insert into public.jobs values ('at half')`);
    await expect(
      (async () => {
        for (;;) await fill();
      })(),
    ).rejects.toThrow(/too many notifications/);
    await application.query(`insert into public.jobs values ('full')`);
    const { rows } = await application.query(
      "select target from cache_invalidation.outbox where target like 'job:%' order by xid",
    );
    expect(rows).toEqual([{ target: 'job:at%20half' }, { target: 'job:full' }]);
  } finally {
    for (const client of [application, worker, idler, noisy]) await client.end();
  }
});
