/** The seed on a migrated database: real prices, tenants for the tests, and no change when it runs again. */
import { readFile } from 'node:fs/promises';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cloneDatabase } from '../support/database.ts';
import type { ClonedDatabase } from '../support/template.ts';
import { USERS } from './support/callers.ts';

let database: ClonedDatabase;
let pool: pg.Pool;

beforeAll(async () => {
  database = await cloneDatabase();
  pool = new pg.Pool({ connectionString: database.url, max: 8 });
});
afterAll(async () => {
  await pool?.end();
  await database?.drop();
});

const one = async (text: string, values?: unknown[]) => (await pool.query(text, values)).rows[0];

it('holds prices of at least 60 models of at least 8 providers, each with its source', async () => {
  const prices = await one(`
    select
      count(*)::int as models,
      count(distinct provider)::int as providers,
      count(*) filter (where source is null or input_per_mtok is null)::int as incomplete,
      count(*) filter (where cached_input_per_mtok > input_per_mtok)::int as absurd,
      count(*) filter (where checked_on > current_date)::int as from_the_future
    from public.model_prices`);
  expect(prices.models).toBeGreaterThanOrEqual(60);
  expect(prices.providers).toBeGreaterThanOrEqual(8);
  expect(prices).toMatchObject({ incomplete: 0, absurd: 0, from_the_future: 0 });
});

it('holds a member of org-acme with a quota on a model that has a price', async () => {
  const row = await one(
    `select count(*)::int as quotas
     from public.org_members
     join public.quotas using (org_id)
     join public.model_prices using (provider, model)
     where user_id = $1 and org_id = 'org-acme'`,
    [USERS.member],
  );
  expect(row.quotas).toBe(1);
});

it('changes nothing when it runs again', async () => {
  const counts = () =>
    one(`select
      (select count(*) from public.model_prices) as prices,
      (select count(*) from public.org_members) as members,
      (select count(*) from public.quotas) as quotas,
      (select count(*) from public.sessions) as sessions,
      (select count(*) from public.usage_events) as events,
      (select sum(used) from public.quotas) as used`);
  const before = await counts();
  await pool.query(await readFile(new URL('../../supabase/seed.sql', import.meta.url), 'utf8'));
  expect(await counts()).toEqual(before);
});

it('record_usage counts every one of 40 concurrent calls', async () => {
  const used = async () =>
    Number(
      (await one(`select used from public.quotas where org_id = 'org-acme' and model = 'gpt-5-mini'`)).used,
    );
  const before = await used();
  const calls = Array.from({ length: 40 }, () =>
    pool.query("select public.record_usage('org-acme', 'openai', 'gpt-5-mini', 3, 4)"),
  );
  await Promise.all(calls);
  expect(await used()).toBe(before + 40 * 7);
});
