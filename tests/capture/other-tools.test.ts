/**
 * What other people's tools do to watched tables: rename them, swap them, one schema for each tenant. The statements are those that the
 * tools emit: drizzle-kit 0.31 wrote the ones here under its name; Prisma's are by its documentation, because its engine could not be
 * downloaded. See other-tools-debian.test.ts for tools that run themselves.
 */
import { copyFile, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import pg from 'pg';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { connect, targetsOf } from './sessions.ts';

let database: ClonedDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await cloneDatabase();
  client = await connect(database.url);
});

beforeEach(async () => {
  await client.query(`drop table if exists public.stock, public.stock_old, public.stock_new, public.orders cascade;
    delete from cache_invalidation.dropped_watches;
    create table public.stock (id integer primary key, org_id text, note text);
    insert into public.stock values (1, 'a', 'x');
    select cache_invalidation.watch('public.stock', 'stock:{org_id}')`);
});

afterAll(async () => {
  await client?.end();
  await database?.drop();
});

const captured = (statement: string) => targetsOf(client, statement);

async function problems(): Promise<string[]> {
  const { rows } = await client.query<{ line: string }>(
    `select severity || ': ' || problem as line from cache_invalidation.problems()`,
  );
  return rows.map((row) => row.line);
}

/**
 * pg-osc and gh-ost's way, without pg_repack's extension: a copy, a trigger that keeps it up to date, then two renames in one transaction.
 */
const copyAndSwap = `
  create table public.stock_new (like public.stock including all);
  create function public.keep_up() returns trigger language plpgsql as $$
    begin
      if tg_op <> 'INSERT' then delete from public.stock_new where id = old.id; end if;
      if tg_op <> 'DELETE' then insert into public.stock_new select new.*; end if;
      return null;
    end $$;
  create trigger keep_up after insert or update or delete on public.stock for each row execute function public.keep_up();
  insert into public.stock_new select * from public.stock;
  update public.stock set note = 'y' where id = 1;
  begin;
  lock table public.stock in access exclusive mode;
  drop trigger keep_up on public.stock;
  drop function public.keep_up();
  alter table public.stock rename to stock_old;
  alter table public.stock_new rename to stock;
  commit`;

test('a table that is copied and swapped: an error at once, and refresh() watches the copy', async () => {
  await client.query(copyAndSwap);
  expect(await problems()).toEqual([
    `error: the watch of public.stock_old for 'stock:{org_id}' was declared when that was called public.stock, which is another table now`,
  ]);
  // What was written between the swap and now is in no change, so the type is invalidated.
  expect(await captured('select cache_invalidation.refresh()')).toEqual(['stock:*']);
  expect(await captured(`insert into public.stock values (2, 'b')`)).toEqual(['stock:b']);
  await client.query('drop table public.stock_old');
  expect(await problems()).toEqual([]);
  expect(await captured(`insert into public.stock values (3, 'c')`)).toEqual(['stock:c']);
});

test('a table that is copied, swapped and dropped in one transaction is an error until refresh()', async () => {
  await client.query(copyAndSwap.replace('commit', 'drop table public.stock_old; commit'));
  expect(await problems()).toEqual([
    `error: public.stock is not watched for 'stock:{org_id}', as the table was that had its name and was dropped`,
  ]);
  expect(await captured('select cache_invalidation.refresh()')).toEqual(['stock:*']);
  expect(await captured(`insert into public.stock values (2, 'b')`)).toEqual(['stock:b']);
  expect(await problems()).toEqual([]);
});

test('drizzle-kit: a renamed column and a renamed table are followed', async () => {
  await client.query(`ALTER TABLE "stock" RENAME COLUMN "org_id" TO "organisation"`);
  expect(await captured(`insert into public.stock values (2, 'b')`)).toEqual(['stock:b']);
  await client.query(`ALTER TABLE "stock" RENAME TO "goods"`);
  expect(await captured(`update public.goods set note = 'z' where id = 2`)).toEqual(['stock:b']);
  expect(await problems()).toEqual([]);
  await client.query(`ALTER TABLE "goods" RENAME TO "stock"`);
});

test('Prisma: a rename that is a new column and a dropped one widens, and says so', async () => {
  await client.query(`ALTER TABLE "stock" DROP COLUMN "org_id", ADD COLUMN "organisation" TEXT`);
  expect(await captured(`insert into public.stock (id, organisation) values (2, 'b')`)).toEqual(['stock:*']);
  expect(await problems()).toEqual([
    expect.stringMatching(/^warning: writes to public.stock invalidate the whole type of stock:\{org_id\}/),
  ]);
  await client.query(`select cache_invalidation.unwatch('public.stock', 'stock:{org_id}');
    select cache_invalidation.watch('public.stock', 'stock:{organisation}')`);
  expect(await captured(`insert into public.stock (id, organisation) values (3, 'c')`)).toEqual(['stock:c']);
  expect(await problems()).toEqual([]);
});

test('Prisma: an enum that is made again under its name, through a new type and a cast, invalidates the type', async () => {
  await client.query(`create type public.level as enum ('low', 'high');
    create table public.orders (id integer primary key, level public.level);
    insert into public.orders values (1, 'low');
    select cache_invalidation.watch('public.orders', 'orders:{level}')`);
  const change = captured(`BEGIN;
    CREATE TYPE "level_new" AS ENUM ('low', 'middle');
    ALTER TABLE "orders" ALTER COLUMN "level" TYPE "level_new" USING ("level"::text::"level_new");
    ALTER TYPE "level" RENAME TO "level_old";
    ALTER TYPE "level_new" RENAME TO "level";
    DROP TYPE "level_old";
    COMMIT`);
  expect(await change).toEqual(['orders:*']);
  expect(await captured(`update public.orders set level = 'middle'`)).toEqual([
    'orders:low',
    'orders:middle',
  ]);
  expect(await problems()).toEqual([]);
});

test('Prisma: a primary key that is made again, and a table that is made again', async () => {
  await client.query(`ALTER TABLE "stock" DROP CONSTRAINT "stock_pkey", ALTER COLUMN "id" SET DATA TYPE BIGINT,
    ADD CONSTRAINT "stock_pkey" PRIMARY KEY ("id")`);
  expect(await captured(`update public.stock set note = 'z'`)).toEqual(['stock:a']);
  await client.query(`DROP TABLE "stock"; CREATE TABLE "stock" ("id" SERIAL NOT NULL, "org_id" TEXT)`);
  expect(await problems()).toEqual([
    `error: public.stock is not watched for 'stock:{org_id}', as the table was that had its name and was dropped`,
  ]);
});

test('tenants as schemas: DDL on an unwatched table looks at no watch, and no check asks once for each', async () => {
  await client.query(`do $$
    begin
      for tenant in 1..100 loop
        execute format('create schema tenant_%s create table stock (id integer primary key, org_id text)', tenant);
        perform cache_invalidation.watch(format('tenant_%s.stock', tenant)::regclass, format('tenant-%s:{org_id}', tenant));
      end loop;
    end $$`);
  expect(await problems()).toEqual([]);
  expect(
    await captured(`insert into tenant_7.stock values (1, 'a'); insert into tenant_8.stock values (1, 'a')`),
  ).toEqual(['tenant-7:a', 'tenant-8:a']);
  // How often each function runs: see bench/capture/tenants.ts for times.
  const calls = async (statement: string, name: string): Promise<number> => {
    await client.query(`set track_functions = 'all'; select pg_stat_force_next_flush(), pg_stat_reset()`);
    await client.query(statement);
    await client.query('select pg_stat_force_next_flush()');
    const { rows } = await client.query<{ calls: string }>(
      'select calls from pg_stat_user_functions where funcname = $1',
      [name],
    );
    return Number(rows[0]?.calls ?? 0);
  };
  await client.query('create table public.orders (id integer)');
  const ddl = 'alter table public.orders add column note text';
  expect(await calls(ddl, 'follow_ddl')).toBe(1);
  expect(await calls('alter table public.orders add column more text', 'swapped')).toBe(0);
  expect(await calls('alter table public.orders add column less text', 'mismatches')).toBe(0);
  // Triggers are compared all at once, and no function is written anew to be compared.
  expect(await calls('select from cache_invalidation.problems()', 'wrong_triggers')).toBe(1);
  expect(await calls('select from cache_invalidation.problems()', 'capture_body')).toBe(0);
  // One schema is another's copy with the same tables: its own function, by its own name.
  await client.query('drop schema tenant_7 cascade; create schema tenant_7 create table stock (id integer)');
  expect(await problems()).toEqual([
    `error: tenant_7.stock is not watched for 'tenant-7:{org_id}', as the table was that had its name and was dropped`,
  ]);
});

test('supabase db diff --use-pg-delta against a schema without Fencepost drops the triggers: an error until refresh()', async () => {
  const wanted = await cloneDatabase();
  try {
    const other = await connect(wanted.url);
    // What the declarative schema has: the same table, and no trigger.
    await other.query(`create table public.stock (id integer primary key, org_id text, note text)`);
    await other.end();
    const cli = fileURLToPath(new URL('../../node_modules/.bin/supabase', import.meta.url));
    const [from, to] = [database.url, wanted.url].map((url) => `${url}?sslmode=disable`);
    const { stdout } = await execa(
      cli,
      ['db', 'diff', '--use-pg-delta', `--from=${from}`, `--to=${to}`, '--schema=public'],
      { cwd: tmpdir(), stdin: 'ignore' },
    );
    expect(stdout.match(/DROP TRIGGER .*/g)?.sort()).toEqual([
      'DROP TRIGGER "fencepost_public_stock" ON "public"."stock";',
      'DROP TRIGGER "fencepost_public_stock_truncate" ON "public"."stock";',
    ]);
    await client.query(stdout);
    expect(await problems()).toEqual([
      'error: triggers are missing or disabled: public.stock fencepost_public_stock, public.stock fencepost_public_stock_truncate',
    ]);
    expect(await captured('select cache_invalidation.refresh()')).toEqual(['stock:*']);
    expect(await problems()).toEqual([]);
  } finally {
    await wanted.drop();
  }
}, 60_000);

test('supabase db reset makes the engine anew from its migrations, with a new epoch', async () => {
  const reset = await cloneDatabase();
  const folder = await mkdtemp(join(tmpdir(), 'fencepost-reset-'));
  try {
    const from = fileURLToPath(new URL('../../supabase/migrations', import.meta.url));
    const to = join(folder, 'supabase/migrations');
    await mkdir(to, { recursive: true });
    for (const file of await readdir(from)) {
      if (/000\d\d\d_fencepost_/.test(file)) await copyFile(join(from, file), join(to, file));
    }
    await writeFile(
      join(to, '20261201000000_stock.sql'),
      `create table public.stock (org_id text); select cache_invalidation.watch('public.stock', 'stock:{org_id}')`,
    );
    const of = async (query: string) => {
      const other = new pg.Client({ connectionString: reset.url });
      await other.connect();
      try {
        return (await other.query<{ value: string }>(query)).rows.map(({ value }) => value);
      } finally {
        await other.end();
      }
    };
    const [before] = await of('select value from cache_invalidation.epoch');
    const cli = fileURLToPath(new URL('../../node_modules/.bin/supabase', import.meta.url));
    const target = `--remote=${reset.url}?sslmode=disable`;
    await execa(cli, ['db', 'reset', target, '--yes', '--workdir', folder], { stdin: 'ignore' });
    expect(await of('select target as value from cache_invalidation.watches')).toEqual(['stock:{org_id}']);
    expect(await of('select value from cache_invalidation.epoch')).not.toEqual([before]);
    expect(await of('select problem as value from cache_invalidation.problems()')).toEqual([]);
    await of('delete from cache_invalidation.changes');
    await of(`insert into public.stock values ('a')`);
    expect(await of('select target as value from cache_invalidation.outbox')).toEqual(['stock:a']);
  } finally {
    await rm(folder, { recursive: true, force: true });
    await reset.drop();
  }
});
