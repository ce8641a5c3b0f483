/**
 * plpgsql_check finds nothing in any function of the engine, generated trigger functions included. It is a C extension that Debian
 * builds for its own server.
 */
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findPlpgsqlCheck } from './debian-extensions.ts';
import { type DebianServer, startDebianServer } from './debian-server.ts';

const debian = await findPlpgsqlCheck();

describe.skipIf(debian.path === undefined)(`plpgsql_check ${debian.reason}`, () => {
  let server: DebianServer;
  let client: pg.Client;

  beforeAll(async () => {
    server = await startDebianServer(debian.path ?? '');
    client = server.client;
    await client.query('create extension plpgsql_check');
    await client.query(`
      create table public.plain (id integer primary key, org_id text, used integer);
      create table public.parted (id integer, org_id text) partition by list (org_id);
      create table public.parted_a partition of public.parted for values in ('a');
      create table public.parent (id integer, org_id text not null, at timestamptz, note bytea);
      create table public.child () inherits (public.parent);
      create table public.items (id integer primary key, plain_id integer references public.plain);
      select cache_invalidation.watch('public.plain', 'plain:{org_id}:*');
      select cache_invalidation.watch('public.plain', 'narrow:{org_id}:{id}', columns => array['used']);
      select cache_invalidation.watch('public.plain', 'constant:all');
      select cache_invalidation.watch('public.parted', 'parted:{org_id}');
      select cache_invalidation.watch('public.parent', 'parent:{org_id}:{at}:{note}');
      select cache_invalidation.watch('public.items', 'plain:{p.org_id}:*', join => 'public.plain p on p.id = row.plain_id')`);
  });

  afterAll(async () => {
    await server?.stop();
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
        plpgsql_check_function(t.tgfoid, t.tgrelid, security_warnings => true, extra_warnings => true) as found(line)
      where t.tgname like 'fencepost%'`);
    expect(rows).toEqual([]);
    const { rows: checked } = await client.query(
      `select array_agg(distinct t.tgfoid::regproc::text order by t.tgfoid::regproc::text) as functions, count(*)::int as triggers
         from pg_trigger as t where t.tgname like 'fencepost%'`,
    );
    expect(checked).toEqual([
      {
        functions: ['items', 'parent', 'parted', 'plain'].map(
          (table) => `cache_invalidation.capture_public_${table}`,
        ),
        // A row trigger and one for TRUNCATE, and the same of a partition and of a child.
        triggers: 12,
      },
    ]);
  });
});
