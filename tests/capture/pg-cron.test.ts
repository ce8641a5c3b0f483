/** A database with pg_cron and without a worker: the outbox is compacted by a job, which stays silent where nothing is to be done. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findCron } from './debian-extensions.ts';
import { type DebianServer, startDebianServer } from './debian-server.ts';
import { targetsIn } from './sessions.ts';

const cron = await findCron();

describe.skipIf(cron.path === undefined)(`pg_cron ${cron.reason}`, () => {
  let server: DebianServer;

  beforeAll(async () => {
    server = await startDebianServer(cron.path ?? '', {
      settings: ['shared_preload_libraries=pg_cron', 'cron.use_background_workers=on'],
      before: 'create extension pg_cron',
    });
    await server.client.query(`create table public.stock (id integer primary key);
      select cache_invalidation.watch('public.stock', 'stock:{id}');
      delete from cache_invalidation.changes;
      insert into public.stock values (1); insert into public.stock values (2)`);
  });

  afterAll(async () => {
    await server?.stop();
  });

  const jobs = async () =>
    (await server.client.query('select jobname, schedule, command, active from cron.job')).rows;

  test('the migration has compact() called each hour, for more than a million changes', async () => {
    expect(await jobs()).toEqual([
      {
        jobname: 'fencepost-compact',
        schedule: '17 * * * *',
        command: 'select cache_invalidation.compact(1000000)',
        active: true,
      },
    ]);
    await server.client.query('select cache_invalidation.compact(1000000)');
    expect(await targetsIn(server.client)).toEqual(['stock:1', 'stock:2']);
  });

  test('pg_cron runs what it was given, and one change for everything is left', async () => {
    // Due at once instead of in an hour, and for any number of changes.
    await server.client.query(
      `select cron.alter_job(jobid, schedule => '* * * * *', command => replace(command, '1000000', '1')) from cron.job`,
    );
    await expect.poll(() => targetsIn(server.client), { timeout: 90_000 }).toEqual(['*']);
    await expect
      .poll(async () => (await server.client.query('select status from cron.job_run_details')).rows, {
        timeout: 10_000,
      })
      .toContainEqual({ status: 'succeeded' });
  });
});
