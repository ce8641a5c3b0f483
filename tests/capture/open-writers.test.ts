/**
 * What begins to capture while a writer is open, who has changed a row already: it waits for one who may have left nothing, so that the type
 * is invalidated after his commit; and where his change is kept, that change gives what was declared meanwhile as well.
 */
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { targetsIn, twoSessions } from './sessions.ts';

let database: ClonedDatabase;
let client: pg.Client;
let writer: pg.Client;

beforeAll(async () => {
  database = await cloneDatabase();
});

beforeEach(async () => {
  ({ client, other: writer } = await twoSessions(database.url));
  await client.query(`drop table if exists public.stock;
    delete from cache_invalidation.dropped_watches;
    create table public.stock (id integer primary key, org_id text, note text);
    insert into public.stock values (1, 'a', 'x')`);
});

afterEach(async () => {
  await writer?.end();
  await client?.end();
});

afterAll(async () => {
  await database?.drop();
});

const note = `select cache_invalidation.watch('public.stock', 'note:{id}', columns => '{note}')`;

test.each([
  {
    name: 'a first watch',
    before: '',
    call: `select cache_invalidation.watch('public.stock', 'stock:{org_id}')`,
    invalidates: 'stock:*',
  },
  {
    name: 'a second watch where all others have columns',
    before: note,
    call: `select cache_invalidation.watch('public.stock', 'stock:{org_id}')`,
    invalidates: 'stock:*',
  },
  {
    name: 'other columns',
    before: note,
    call: `select cache_invalidation.watch('public.stock', 'note:{id}', columns => '{note,org_id}')`,
    invalidates: 'note:*',
  },
  {
    name: 'resume_capture()',
    before: `select cache_invalidation.watch('public.stock', 'stock:{org_id}'), cache_invalidation.pause()`,
    call: 'select cache_invalidation.resume_capture()',
    invalidates: '*',
  },
  {
    name: 'refresh() of a capture function that was replaced',
    before: `select cache_invalidation.watch('public.stock', 'stock:{org_id}');
      create or replace function cache_invalidation.capture_public_stock() returns trigger language plpgsql as 'begin return null; end'`,
    call: 'select cache_invalidation.refresh()',
    invalidates: 'stock:*',
  },
])('$name waits for a writer who may have left nothing', async ({ before, call, invalidates }) => {
  await client.query(`${before}; delete from cache_invalidation.changes`);
  await writer.query(`begin; update public.stock set org_id = 'b'`);
  await client.query(`set lock_timeout = '20ms'`);
  await expect(client.query(call)).rejects.toMatchObject({
    message: 'the table public.stock is busy: no lock within 20ms',
  });
  await writer.query('commit');
  expect(await targetsIn(client)).toEqual([]);
  await client.query(call);
  expect(await targetsIn(client)).toContain(invalidates);
});

test('another watch waits for nobody whose change is kept, which gives its type as well', async () => {
  await client.query(`select cache_invalidation.watch('public.stock', 'stock:{org_id}');
    delete from cache_invalidation.changes`);
  await writer.query(`begin; update public.stock set note = 'y'`);
  await client.query(`set lock_timeout = '20ms'; ${note}; delete from cache_invalidation.changes`);
  await writer.query('commit');
  expect(await targetsIn(client)).toEqual(['note:*', 'stock:a']);
});

test('a version that is deleted under a writer who began while it was retired: his change is `*`', async () => {
  await client.query(`select cache_invalidation.watch('public.stock', 'stock:{org_id}')`);
  await client.query(`begin; ${note}`);
  await writer.query(`begin; update public.stock set note = 'y'`);
  await client.query('commit');
  for (let versions = 0; versions !== 1; ) {
    await client.query(`delete from cache_invalidation.changes; ${note}`);
    const { rows } = await client.query(
      `select distinct id from cache_invalidation.versions where rel = 'public.stock'::regclass`,
    );
    versions = rows.length;
  }
  await writer.query('commit');
  expect(await targetsIn(client)).toEqual(['*']);
});
