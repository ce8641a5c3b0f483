import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { killAllWorkers, runCommand } from './support/worker-process.ts';
import { startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

let stack: WorkerStack;
beforeAll(async () => {
  stack = await startWorkerStack();
  await stack.sql.query(`
    create table public.parents (id integer primary key, owner text);
    create table public.things (id integer primary key, parent_id integer, "strange'name" text, note text);
    create view public.seen as select * from public.things`);
});
afterEach((test) => killAllWorkers(test));
afterAll(async () => {
  await stack.close();
});

async function watch(...parameters: string[]) {
  return await as({}, ...parameters);
}

const as = (changes: Record<string, string>, ...parameters: string[]) =>
  runCommand(stack.environment(changes), ['watch', ...parameters]);

const declared = async () =>
  (
    await stack.sql.query(
      `select target, columns, min_interval::text, join_clause from cache_invalidation.watches
        where rel = 'public.things'::regclass order by id`,
    )
  ).rows;

it('declares a watch, whose writes count from then on, and prints what to keep', async () => {
  const { code, text } = await watch('public.things', 'thing:{id}');
  expect(code).toBe(0);
  expect(text).toContain('watched  public.things  thing:{id}');
  expect(text).toContain("select cache_invalidation.watch('public.things', 'thing:{id}');");
  await stack.sql.query("insert into public.things values (7, 1, 'a', 'b')");
  const { rows } = await stack.sql.query(
    "select target from cache_invalidation.outbox where target like 'thing:%' order by target",
  );
  expect(rows).toEqual([{ target: 'thing:*' }, { target: 'thing:7' }]);
});

it('prints a statement that declares the very same, whatever the names', async () => {
  const parameters = [
    'public.things',
    'owner:{p.owner}:{"strange\'name"}',
    '--join',
    'public.parents p on p.id = row.parent_id',
  ];
  const { code, text } = await watch(
    ...parameters,
    '--columns',
    "note, strange'name",
    '--min-interval',
    '1 minute',
  );
  expect(code).toBe(0);
  const before = await declared();
  expect(before).toContainEqual({
    target: 'owner:{p.owner}:{"strange\'name"}',
    columns: ['note', "strange'name"],
    min_interval: '00:01:00',
    join_clause: expect.stringContaining('public.parents'),
  });
  await stack.sql.query("select cache_invalidation.unwatch('public.things', $1)", [
    'owner:{p.owner}:{"strange\'name"}',
  ]);
  await stack.sql.query(text.slice(text.indexOf('select cache_invalidation')));
  expect(await declared()).toEqual(before);
});

it.each([
  ['a view', ['public.seen', 'thing:{id}'], /seen/],
  ['a table that is not there', ['public.nothing', 'thing:{id}'], /public\.nothing/],
  ['a column that is not there', ['public.things', 'thing:{idd}'], /idd/],
  ['a target without a column in braces', ['public.things', 'thing'], /For example quota:\{org_id\}:\*/],
  ['an interval that is none', ['public.things', 'thing:{id}', '--min-interval', 'often'], /often/],
  ['names that are none', ['public.things', 'thing:{id}', '--columns', 'a,,b'], /names of columns/],
])('refuses %s, and says why', async (_, parameters, reason) => {
  const before = await declared();
  const { code, errors } = await watch(...parameters);
  expect(errors).toMatch(reason);
  expect(errors).not.toContain('lacks Fencepost');
  expect(code).toBe(64);
  expect(await declared()).toEqual(before);
});

it('says whose right it is', async () => {
  await stack.sql.query("create role no_owner login password 's'; grant fencepost_worker to no_owner");
  try {
    const url = new URL(stack.databaseUrl);
    url.username = 'no_owner';
    url.password = 's';
    const { code, errors } = await as({ DATABASE_URL: url.href }, 'public.things', 'thing:{id}');
    expect(code).toBe(77);
    expect(errors).toMatch(/owner/);
  } finally {
    await stack.sql.query('drop role no_owner');
  }
});
