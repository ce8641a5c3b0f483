import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

let first: ClonedDatabase;
let second: ClonedDatabase;

beforeAll(async () => {
  [first, second] = await Promise.all([cloneDatabase(), cloneDatabase()]);
});

afterAll(async () => {
  await Promise.all([first.drop(), second.drop()]);
});

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

test('each clone is a database of its own', async () => {
  await query(first.url, 'create table public.only_here (id int)');
  expect(await query(second.url, `select to_regclass('public.only_here') as found`)).toEqual([
    { found: null },
  ]);
});

test('a clone has the roles and functions that Supabase has', async () => {
  expect(
    await query(
      first.url,
      `select rolname, rolcanlogin, rolbypassrls from pg_roles
       where rolname in ('anon', 'authenticated', 'service_role', 'authenticator') order by rolname`,
    ),
  ).toEqual([
    { rolname: 'anon', rolcanlogin: false, rolbypassrls: false },
    { rolname: 'authenticated', rolcanlogin: false, rolbypassrls: false },
    { rolname: 'authenticator', rolcanlogin: true, rolbypassrls: false },
    { rolname: 'service_role', rolcanlogin: false, rolbypassrls: true },
  ]);
  const claims = '{"sub":"11111111-1111-4111-8111-111111111111","role":"authenticated","org":"acme"}';
  expect(
    await query(
      first.url,
      `select auth.uid() as uid, auth.role() as role, auth.jwt() ->> 'org' as org
       from set_config('request.jwt.claims', '${claims}', false)`,
    ),
  ).toEqual([{ uid: '11111111-1111-4111-8111-111111111111', role: 'authenticated', org: 'acme' }]);
  expect(await query(first.url, 'select auth.uid() as uid, auth.role() as role, auth.jwt() as jwt')).toEqual([
    { uid: null, role: null, jwt: null },
  ]);
});

test('a new table is out of reach of the API roles until it is granted, as on Supabase', async () => {
  await query(first.url, 'create table public.fresh (id int)');
  expect(
    await query(
      first.url,
      `select role, has_table_privilege(role, 'public.fresh', 'select') as may
       from unnest(array['anon', 'authenticated', 'service_role']) as role`,
    ),
  ).toEqual([
    { role: 'anon', may: false },
    { role: 'authenticated', may: false },
    { role: 'service_role', may: false },
  ]);
});

test('the migrations were applied by the Supabase CLI', async () => {
  const [row] = await query(
    first.url,
    'select count(*)::int > 0 as applied from supabase_migrations.schema_migrations',
  );
  expect(row).toEqual({ applied: true });
});
