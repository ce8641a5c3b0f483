/**
 * Extensions that move rows and tables about by themselves, as Debian packages them: pg_partman makes, fills and drops partitions,
 * pg_repack copies a table and swaps the copies.
 */
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { findPartman, findRepack } from './debian-extensions.ts';
import { type DebianServer, startDebianServer } from './debian-server.ts';
import { targetsOf } from './sessions.ts';

const partman = await findPartman();
const repack = await findRepack();

let server: DebianServer;

const captured = (statement: string) => targetsOf(server.client, statement);

const problems = async () =>
  (await server.client.query('select severity, problem from cache_invalidation.problems()')).rows;

describe.skipIf(partman.path === undefined)(`pg_partman ${partman.reason}`, () => {
  beforeAll(async () => {
    server = await startDebianServer(partman.path ?? '');
    await server.client.query(`create schema partman; create extension pg_partman schema partman;
      create table public.events (org_id text not null, at timestamptz not null) partition by range (at);
      select cache_invalidation.watch('public.events', 'events:{org_id}')`);
  });

  afterAll(async () => {
    await server?.stop();
  });

  test('partitions that it makes are watched', async () => {
    await server.client.query(
      `select partman.create_parent('public.events', 'at', 'native', 'daily', p_start_partition => (now() - interval '5 days')::text)`,
    );
    expect(await captured(`insert into public.events values ('a', now())`)).toEqual(['events:a']);
    expect(await captured(`update public.events set org_id = 'b' where org_id = 'a'`)).toEqual([
      'events:a',
      'events:b',
    ]);
    expect(await problems()).toEqual([]);
  });

  test('rows that it moves out of the default partition are captured', async () => {
    await server.client.query(`insert into public.events values ('far', now() + interval '30 days')`);
    expect(await captured(`call partman.partition_data_proc('public.events')`)).toContain('events:far');
    expect(await captured(`delete from public.events where org_id = 'far'`)).toEqual(['events:far']);
    expect(await problems()).toEqual([]);
  });

  test('retention that drops or detaches partitions with rows invalidates the type', async () => {
    for (const [keep, org] of [
      [false, 'old'],
      [true, 'older'],
    ] as const) {
      await server.client.query(`insert into public.events values ('${org}', now() - interval '${keep ? 3 : 4} days');
        update partman.part_config set retention = '${keep ? 2 : 3} days', retention_keep_table = ${keep}, retention_keep_index = true`);
      expect(await captured(`select partman.run_maintenance('public.events')`)).toEqual(['events:*']);
      expect(await problems()).toEqual([]);
    }
  });

  test('undone, its partitions move their rows, and all of it is captured', async () => {
    await server.client.query(`insert into public.events values ('a', now());
      create table public.events_plain (like public.events)`);
    expect(
      await captured(
        `call partman.undo_partition_proc('public.events', p_target_table => 'public.events_plain', p_keep_table => false)`,
      ),
    ).toContain('events:*');
    expect(await problems()).toEqual([]);
  });
});

describe.skipIf(repack.path === undefined)(`pg_repack ${repack.reason}`, () => {
  beforeAll(async () => {
    server = await startDebianServer(repack.path ?? '');
    await server.client.query(`create extension pg_repack;
      create table public.stock (id integer primary key, org_id text, note text);
      insert into public.stock select i, 'org-' || i % 10, 'x' from generate_series(1, 1000) as i;
      select cache_invalidation.watch('public.stock', 'stock:{org_id}')`);
  });

  beforeEach(async () => {
    await server.client.query('delete from cache_invalidation.changes');
  });

  afterAll(async () => {
    await server?.stop();
  });

  test('a table that it rewrote is watched as before, and nothing was invalidated', async () => {
    const before = await server.client.query(`select pg_relation_filenode('public.stock') as file`);
    const { stdout, stderr } = await execa(join(repack.path ?? '', 'bin/pg_repack'), [
      ...['--host=127.0.0.1', `--port=${server.port}`, '--username=postgres', '--dbname=postgres'],
      '--table=public.stock',
    ]);
    expect(stdout + stderr).toContain('repacking table "public.stock"');
    const after = await server.client.query(`select pg_relation_filenode('public.stock') as file`);
    expect(after.rows).not.toEqual(before.rows);
    expect((await server.client.query('select * from cache_invalidation.changes')).rows).toEqual([]);
    expect(await captured(`update public.stock set org_id = 'moved' where id = 1`)).toEqual([
      'stock:moved',
      'stock:org-1',
    ]);
    expect(await problems()).toEqual([]);
  });
});
