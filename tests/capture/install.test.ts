/**
 * The migrations, pushed by Supabase's own program, as roles of three kinds: a superuser (every other test), the owner
 * of a database who is no superuser and may not create event triggers (as on hosted Supabase without that right), and
 * on a database that has none of Supabase's roles' schemas.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { applyMigrations } from '../../local/parts/migrations.ts';
import type { Part } from '../../local/parts/part.ts';
import { startPostgres, withDatabase } from '../../local/parts/postgres.ts';

let server: Part & { url: string };

beforeAll(async () => {
  server = await startPostgres();
});

afterAll(async () => {
  await server?.stop();
});

async function using<T>(url: string, action: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await action(client);
  } finally {
    await client.end();
  }
}

test('as the owner of the database, with createrole and bypassrls but not superuser', async () => {
  await using(server.url, async (superuser) => {
    await superuser.query(
      `create role hosted login createrole createdb replication bypassrls password 'hosted'`,
    );
    await superuser.query('grant anon, authenticated, service_role to hosted with admin option');
    await superuser.query('create database project owner hosted');
  });
  await using(withDatabase(server.url, 'project'), async (superuser) => {
    await superuser.query(
      'grant all on schema public, extensions to hosted; grant usage on schema auth to hosted',
    );
  });
  const url = new URL(withDatabase(server.url, 'project'));
  url.username = 'hosted';
  url.password = 'hosted';
  await applyMigrations(url.href);

  await using(url.href, async (owner) => {
    const { rows: triggers } = await owner.query('select evtname from pg_event_trigger');
    expect(triggers).toEqual([]);
    const { rows: problems } = await owner.query('select * from cache_invalidation.problems()');
    expect(problems).toEqual([
      {
        watch_id: null,
        problem: expect.stringContaining('no event triggers'),
        remedy: expect.any(String),
        severity: 'notice',
      },
    ]);
    await owner.query(`create table public.things (org_id text); grant insert on public.things to anon;
      select cache_invalidation.watch('public.things', 'thing:{org_id}')`);
    await owner.query('set role anon');
    await owner.query(`insert into public.things values ('a')`);
    await expect(owner.query('select * from cache_invalidation.outbox')).rejects.toThrow(/permission denied/);
    await owner.query('reset role');
    await owner.query('alter table public.things rename column org_id to renamed');
    await owner.query(`insert into public.things values ('b')`);
    const { rows } = await owner.query(
      `select target, error from cache_invalidation.outbox where target like 'thing%' order by xid`,
    );
    expect(rows).toEqual([
      { target: 'thing:*', error: null },
      // The worker has not claimed it before a rename that nothing saw.
      { target: 'thing:*', error: '42804' },
      { target: 'thing:*', error: '42703' },
    ]);
    await owner.query('grant fencepost_worker to hosted with set true, inherit true').catch(() => undefined);
    await owner.query('select * from cache_invalidation.claim()');
  });
});

test('the engine alone, in a database without Supabase, and twice in one server', async () => {
  const folder = fileURLToPath(new URL('../../supabase/migrations', import.meta.url));
  const files = readdirSync(folder)
    .filter((file) => /^202611010\d+_fencepost_.*\.sql$/.test(file))
    .sort();
  expect(files.length).toBeGreaterThan(5);
  for (const name of ['bare_one', 'bare_two']) {
    await using(server.url, (superuser) => superuser.query(`create database ${name} template template0`));
    await using(withDatabase(server.url, name), async (client) => {
      for (const file of files) await client.query(readFileSync(join(folder, file), 'utf8'));
      await client.query(`create table public.things (org_id text);
        select cache_invalidation.watch('public.things', 'thing:{org_id}'); insert into public.things values ('a')`);
      const { rows } = await client.query('select target from cache_invalidation.outbox order by target');
      expect(rows).toEqual([{ target: 'thing:*' }, { target: 'thing:a' }]);
    });
  }
});

test('a database that is not UTF-8 is refused with the remedy', async () => {
  const first = fileURLToPath(
    new URL('../../supabase/migrations/20261101000050_fencepost_requirements.sql', import.meta.url),
  );
  await using(server.url, (superuser) =>
    superuser.query(`create database latin template template0 encoding 'LATIN1' locale 'C'`),
  );
  await using(withDatabase(server.url, 'latin'), async (client) => {
    await expect(client.query(readFileSync(first, 'utf8'))).rejects.toMatchObject({
      message: expect.stringContaining('needs a database encoded in UTF8'),
      hint: expect.stringContaining('Create a database'),
    });
  });
});

test('a busy table: watch() gives up after its lock_timeout and leaves nothing', async () => {
  await using(withDatabase(server.url, 'bare_one'), (busy) =>
    using(withDatabase(server.url, 'bare_one'), async (client) => {
      await client.query('create table public.busy (org_id text)');
      await busy.query('begin; insert into public.busy values (1)');
      await client.query(`set lock_timeout = '50ms'`);
      await expect(
        client.query(`select cache_invalidation.watch('public.busy', 'busy:{org_id}')`),
      ).rejects.toMatchObject({ code: '55P03', hint: expect.stringContaining('Nothing was changed') });
      const { rows } = await client.query(
        `select (select count(*) from cache_invalidation.watches where target = 'busy:{org_id}') as watches,
          (select count(*) from pg_trigger where tgrelid = 'public.busy'::regclass) as triggers, current_setting('lock_timeout') as timeout`,
      );
      expect(rows).toEqual([{ watches: '0', triggers: '0', timeout: '50ms' }]);
      await busy.query('commit');
      await client.query(`select cache_invalidation.watch('public.busy', 'busy:{org_id}')`);
    }),
  );
});
