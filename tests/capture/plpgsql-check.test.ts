/**
 * plpgsql_check finds nothing in any function of the engine, generated trigger functions included. It is a C extension that Debian
 * builds for its own server, so that server is started here, as an ordinary user, in a temporary folder.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { chown } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { onFreePort } from '../../local/parts/ports.ts';
import { type RunningProcess, runToEnd, startProcess } from '../../local/parts/process.ts';
import { removePath } from '../../local/parts/reaper.ts';
import { folderFor, unprivilegedUser } from '../../local/parts/unprivileged.ts';
import { findPlpgsqlCheck } from './debian-extensions.ts';

const debian = await findPlpgsqlCheck();

describe.skipIf(debian.path === undefined)(`plpgsql_check ${debian.reason}`, () => {
  let folder: string;
  let server: RunningProcess;
  let client: pg.Client;

  beforeAll(async () => {
    const programs = debian.path ?? '';
    const user = await unprivilegedUser();
    folder = await folderFor(user, 'debian-postgres');
    if (user !== undefined) await chown(folder, user.uid, user.gid);
    const data = join(folder, 'data');
    await runToEnd({
      name: 'initdb',
      file: join(programs, 'bin/initdb'),
      arguments: [
        `--pgdata=${data}`,
        '--username=postgres',
        '--auth=trust',
        '--encoding=UTF8',
        '--locale=C.UTF-8',
        '--no-sync',
      ],
      user,
      folder,
    });
    const started = await onFreePort({}, async (port) => ({
      port,
      process: await startProcess({
        name: 'Postgres',
        file: join(programs, 'bin/postgres'),
        arguments: [
          '-D',
          data,
          '-p',
          String(port),
          '-c',
          'listen_addresses=127.0.0.1',
          '-c',
          'unix_socket_directories=',
          '-c',
          'fsync=off',
        ],
        user,
        folder,
        endings: [['SIGINT', 3_000]],
        ready: (line) => line.includes('database system is ready to accept connections'),
        readyWithin: 30_000,
      }),
    }));
    server = started.process;
    client = new pg.Client({
      host: '127.0.0.1',
      port: started.port,
      user: 'postgres',
      database: 'postgres',
    });
    await client.connect();
    await client.query('create extension plpgsql_check');
    const migrations = fileURLToPath(new URL('../../supabase/migrations', import.meta.url));
    for (const file of readdirSync(migrations).sort()) {
      if (file.includes('_fencepost_')) await client.query(readFileSync(join(migrations, file), 'utf8'));
    }
    await client.query(`
      create table public.plain (id integer primary key, org_id text, used integer);
      create table public.parted (id integer, org_id text) partition by list (org_id);
      create table public.items (id integer primary key, plain_id integer references public.plain);
      select cache_invalidation.watch('public.plain', 'plain:{org_id}:*');
      select cache_invalidation.watch('public.plain', 'narrow:{org_id}:{id}', columns => array['used']);
      select cache_invalidation.watch('public.plain', 'constant:all');
      select cache_invalidation.watch('public.parted', 'parted:{org_id}');
      select cache_invalidation.watch('public.items', 'plain:{p.org_id}:*', join => 'public.plain p on p.id = row.plain_id')`);
  }, 120_000);

  afterAll(async () => {
    await client?.end();
    await server?.stop();
    if (folder !== undefined) await removePath(folder);
  });

  test('finds a mistake that is there', async () => {
    await client.query(
      `create function public.wrong() returns integer language plpgsql as 'begin return (select nope from public.plain); end'`,
    );
    const { rows } = await client.query(`select * from plpgsql_check_function('public.wrong()')`);
    expect(rows.length).toBeGreaterThan(0);
  });

  test('finds nothing in the functions', async () => {
    const { rows } = await client.query(`
      select p.oid::regprocedure::text as function, found.line
      from pg_proc as p join pg_language as l on l.oid = p.prolang,
        plpgsql_check_function(p.oid, security_warnings => true, extra_warnings => true, performance_warnings => false) as found(line)
      where p.pronamespace = 'cache_invalidation'::regnamespace and l.lanname = 'plpgsql'
        and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype)`);
    expect(rows).toEqual([]);
  });

  test('finds nothing in the event triggers', async () => {
    const { rows } = await client.query(`
      select p.oid::regprocedure::text as function, found.line
      from pg_proc as p, plpgsql_check_function(p.oid, security_warnings => true) as found(line)
      where p.pronamespace = 'cache_invalidation'::regnamespace and p.prorettype = 'event_trigger'::regtype`);
    expect(rows).toEqual([]);
  });

  test('finds nothing in the generated trigger functions', async () => {
    const { rows } = await client.query(`
      select t.tgname, found.line
      from pg_trigger as t,
        plpgsql_check_function(t.tgfoid, t.tgrelid, oldtable => 'old_rows', newtable => 'new_rows', security_warnings => true) as found(line)
      where t.tgname like 'fencepost%'`);
    expect(rows).toEqual([]);
    const { rows: checked } = await client.query(
      `select count(*) from pg_trigger where tgname like 'fencepost%'`,
    );
    expect(Number(checked[0]?.count)).toBeGreaterThanOrEqual(20);
  });
});
