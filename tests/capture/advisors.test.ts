/** Supabase's own advisors, run by its command line against a database with the engine, the queue's tables and a few watches. */
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

let database: ClonedDatabase;
let client: pg.Client;

beforeAll(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await client.query(`
    create table public.orders (id integer primary key, user_id text);
    create table public.items (id integer primary key, order_id integer references public.orders) partition by range (id);
    create table public.items_first partition of public.items for values from (0) to (1000);
    alter table public.orders enable row level security;
    select cache_invalidation.watch('public.items', 'user:{o.user_id}', join => 'public.orders o on o.id = row.order_id')`);
});

afterAll(async () => {
  await client?.end();
  await database?.drop();
});

interface Advice {
  readonly name: string;
  readonly level: string;
  readonly detail: string;
  readonly metadata: { readonly schema?: string };
}

/** What they say of our schemas. */
async function advice(): Promise<string[]> {
  const target = `--remote=${database.url}?sslmode=disable`;
  const { stdout } = await execa(
    'node_modules/.bin/supabase',
    ['db', 'advisors', target, '--type=all', '--level=info', '--output-format=json'],
    { cwd: root, stdin: 'ignore' },
  );
  const { results } = JSON.parse(stdout) as { results: Advice[] };
  return results
    .filter(({ metadata }) => metadata.schema?.startsWith('cache_invalidation'))
    .map(({ level, name, detail }) => `${level} ${name}: ${detail}`)
    .sort();
}

test('they find a function without a search_path, of ours and of the queue’s', async () => {
  await client.query(`
    create function cache_invalidation.careless() returns integer language sql as 'select 1';
    create function cache_invalidation_queue.careless() returns integer language sql as 'select 1'`);
  try {
    const found = await advice();
    for (const schema of ['cache_invalidation', 'cache_invalidation_queue'])
      expect(found).toContainEqual(
        expect.stringMatching(`^WARN function_search_path_mutable: .*${schema}\\.careless`),
      );
  } finally {
    await client.query(
      'drop function cache_invalidation.careless(); drop function cache_invalidation_queue.careless()',
    );
  }
});

test('they find nothing else, but indexes that a new database has not used, and an outbox without a primary key', async () => {
  expect((await advice()).filter((line) => !line.startsWith('INFO unused_index: '))).toEqual([
    // An index on a number of its own would cost every writer, and nobody asks for single rows: docs/protocol.md#outbox-and-claims
    'INFO no_primary_key: Table `cache_invalidation.changes` does not have a primary key',
  ]);
});
