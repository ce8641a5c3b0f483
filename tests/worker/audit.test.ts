/** What an audit asks the database: the sources of cache_invalidation.answers(), read-only and in limited time. */
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ask, readSources, sourceOf } from '../../worker/src/diagnostics/audit/sources.ts';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

let database: ClonedDatabase;
let owner: pg.Pool;
beforeAll(async () => {
  database = await cloneDatabase();
  owner = new pg.Pool({ connectionString: database.url, max: 2 });
  await owner.query(`create function public.raises(words text, state text) returns int language plpgsql as
    $$ begin raise exception using message = words, errcode = state; end $$`);
});
afterAll(async () => {
  await owner.end();
  await database.drop();
});

const answer = (source: string, key = 'a:x', target = 'a:{b}', timeoutMs = 5_000) =>
  ask(owner, { target, source }, key, timeoutMs);

it('has the declared answer for every key type of the workbench', async () => {
  await owner.query(
    "insert into public.quotas (org_id, provider, model, token_limit) values ('audited', 'openai', 'a:b', 10)",
  );
  const sources = await readSources(owner);
  const key = 'quota:audited:openai:a%3Ab';
  const source = sourceOf(sources, key);
  expect(source?.target).toBe('quota:{org}:{provider}:{model}');
  if (source === undefined) throw new Error('There is no source.');
  expect(await ask(owner, source, key)).toMatchObject({ value: { model: 'a:b', limit: 10 } });
  for (const absent of ['session:none:state', 'user:none:prefs', 'cost:none:none', 'member:none:none']) {
    const other = sourceOf(sources, absent);
    expect(other, absent).toBeDefined();
    if (other !== undefined) expect(await ask(owner, other, absent), absent).toEqual({ value: null });
  }
});

it('takes the first column of the first row, as JSON', async () => {
  expect(await answer('select $1')).toEqual({ value: 'x' });
  expect(await answer("select timestamptz '2026-11-01 12:00+02', 2 from unnest(array[$1])")).toEqual({
    value: '2026-11-01T10:00:00+00:00',
  });
  expect(await answer('select 1 where $1::text is null -- none')).toEqual({ value: null });
});

it.each([
  [
    'a write',
    "select public.record_usage($1, 'openai', 'gpt', 1)",
    /^its source fails: .*read-only transaction/,
  ],
  [
    'a table that is gone',
    'select 1 from public.gone where $1 is null',
    /^its source fails: .*does not exist/,
  ],
  [
    'an error that it raises itself, without its words, which may hold values',
    "select public.raises('a value of a row', '42883') where $1::text is not null",
    /^its source fails: SQLSTATE 42883: a function raised an error of its own/,
  ],
  [
    'an error of its own making',
    "select public.raises('a value of a row', 'AB123') where $1::text is not null",
    /^its source fails: SQLSTATE AB123: a function raised an error of its own/,
  ],
  [
    'a subquery of two rows',
    'select (select x from unnest(array[$1, $1]) as x)',
    /^its source fails: SQLSTATE 21000: a subquery gives/,
  ],
  ['two statements', 'select $1; select 2', /^its source fails: syntax error/],
])('reports %s as a fault of the source', async (_, source, reason) => {
  expect(await answer(source)).toEqual({ fault: 'source', reason: expect.stringMatching(reason) });
});

it('ends a source that takes too long, and leaves its connection usable', async () => {
  const slow = await answer('select pg_sleep(600) where $1::text is not null', 'a:x', 'a:{b}', 50);
  expect(slow).toEqual({ fault: 'source', reason: 'no answer within 0.05 s' });
  expect(await answer('select $1')).toEqual({ value: 'x' });
});

it('tells a key without an answer from a faulty source', async () => {
  expect(await answer('select $1::date', 'a:2026-13-45')).toMatchObject({ fault: 'key' });
  expect(await answer('select $1', 'a:100%')).toMatchObject({ fault: 'key' });
});

it('runs with the rights of the worker', async () => {
  await owner.query("create role audit_worker login password 'w' in role fencepost_worker");
  const url = new URL(database.url);
  url.username = 'audit_worker';
  url.password = 'w';
  const worker = new pg.Pool({ connectionString: url.href, max: 1 });
  try {
    const sources = await readSources(worker);
    const source = sourceOf(sources, 'user:anna:prefs');
    if (source === undefined) throw new Error('There is no source.');
    expect(await ask(worker, source, 'user:anna:prefs')).toEqual({
      fault: 'source',
      reason: 'the role may not read it',
    });
  } finally {
    await worker.end();
    await owner.query('drop role audit_worker');
  }
});
