/**
 * An application that was there before adopts Fencepost: a project made by Supabase's own program, with tables from before
 * and from after our migrations' dates, some of them pushed; then `fencepost init`, `supabase db push`, a watch, and a
 * function that reads through the copied module under Deno.
 */
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import pg from 'pg';
import { afterAll, beforeAll, expect, it, onTestFinished } from 'vitest';
import { applyMigrations } from '../../local/parts/migrations.ts';
import type { Part } from '../../local/parts/part.ts';
import { startPostgres, withDatabase } from '../../local/parts/postgres.ts';
import { removePath, temporaryFolder } from '../../local/parts/reaper.ts';
import { startUpstash, TOKEN } from '../support/upstash.ts';
import { installPackage } from './support/installed-package.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const installedProgram = (path: string) => join(repository, 'node_modules', path);
const deno = (parameters: readonly string[], environment: Record<string, string> = {}) =>
  execa(process.execPath, [installedProgram('deno/bin.cjs'), ...parameters], {
    cwd: project,
    reject: false,
    env: {
      DENO_DIR: installedProgram('.cache/fencepost-deno'),
      DENO_NO_UPDATE_CHECK: '1',
      NO_COLOR: '1',
      ...environment,
    },
  });

let scratch: string;
let project: string;
let server: Part & { url: string };
beforeAll(async () => {
  scratch = await temporaryFolder('adoption');
  project = join(scratch, 'application');
  await mkdir(project);
  server = await startPostgres();
  await execa(
    process.execPath,
    [installedProgram('supabase/dist/supabase.js'), 'init', '--workdir', project],
    {
      env: { SUPABASE_HOME: scratch, SUPABASE_TELEMETRY_DISABLED: '1', SUPABASE_NO_UPDATE_NOTIFIER: '1' },
      stdin: 'ignore',
    },
  );
  await write(
    'supabase/migrations/20250101000000_orders.sql',
    'create table public.orders (id integer primary key, user_id text not null, total numeric not null default 0);',
  );
  await write(
    'supabase/migrations/20991230000000_notes.sql',
    'create table public.notes (id integer primary key, user_id text not null);',
  );
});
afterAll(async () => {
  await server?.stop();
  await removePath(scratch);
});

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(project, path)), { recursive: true });
  await writeFile(join(project, path), text);
}

async function using<T>(url: string, action: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await action(client);
  } finally {
    await client.end();
  }
}

/** What an update of an order leaves for the worker. */
async function outboxAfterUpdate(url: string): Promise<string[]> {
  return await using(url, async (client) => {
    await client.query("insert into public.orders (id, user_id) values (7, 'anna') on conflict do nothing");
    await client.query('delete from cache_invalidation.changes');
    await client.query('update public.orders set total = total + 1 where id = 7');
    const { rows } = await client.query<{ target: string }>('select target from cache_invalidation.outbox');
    return rows.map(({ target }) => target);
  });
}

it('from the first command to the first invalidation and the first hit', async () => {
  await applyMigrations(server.url, project);

  const installed = await installPackage(scratch);
  const init = (...parameters: string[]) =>
    execa(process.execPath, [join(installed, 'bin/fencepost.mjs'), 'init', ...parameters], { cwd: project });
  const { stdout: text } = await init();
  expect(text).toContain('npx supabase db push --remote --include-all');
  expect(text).toContain('20991230000000_notes.sql');

  // Supabase's program refuses, and lists, what is older than what the database has; what the command said is what helps.
  await expect(applyMigrations(server.url, project)).rejects.toThrow('20261101020000_fencepost_queue.sql');
  await applyMigrations(server.url, project, { includeAll: true });

  await write(
    'supabase/migrations/20991231000000_watches.sql',
    "select cache_invalidation.watch('public.orders', 'user:{user_id}:orders');",
  );
  await applyMigrations(server.url, project);
  expect(await outboxAfterUpdate(server.url)).toEqual(['user:anna:orders']);
  await using(server.url, async (client) => {
    const { rows } = await client.query(
      "select to_regclass('public.quotas') as workbench, to_regclass('public.workflows') as example, to_regnamespace('cache_invalidation_queue') is not null as queue",
    );
    expect(rows).toEqual([{ workbench: null, example: null, queue: true }]);
  });

  // A second copy of the database, from nothing and in the order of the files.
  await using(server.url, (client) => client.query('create database second'));
  const second = withDatabase(server.url, 'second');
  await applyMigrations(second, project);
  expect(await outboxAfterUpdate(second)).toEqual(['user:anna:orders']);

  const { imports } = JSON.parse((await init('--json')).stdout) as { imports: Record<string, string> };
  await readsThroughUnderDeno(imports);
});

const offline = ['--quiet', '--no-lock', '--cached-only', '--node-modules-dir=manual'];
const FUNCTION = 'supabase/functions/orders/index.ts';

async function readsThroughUnderDeno(imports: Record<string, string>): Promise<void> {
  await write('supabase/functions/orders/deno.json', JSON.stringify({ imports }));
  await write(
    FUNCTION,
    `import { getOrSet, keys, TTL } from '../_shared/cache.ts';
let loads = 0;
const load = () => ({ total: (loads += 1) });
const first: { total: number } = await getOrSet('user:anna:orders', load, TTL.LONG);
const second = await getOrSet('user:anna:orders', load);
console.log(JSON.stringify({ first, second, loads, key: keys.orders('anna', 2) }));
`,
  );
  // What a download would bring: the packages, and the types of Node that it refers to.
  await symlink(join(repository, 'node_modules'), join(project, 'node_modules'));
  await write(
    'package.json',
    JSON.stringify({
      type: 'module',
      dependencies: { '@upstash/redis': '*', 'lru-cache': '*', '@types/node': '*' },
    }),
  );
  await typesAreSound();

  const { gateway, stop } = await startUpstash();
  onTestFinished(stop);
  const configured = ['--config', 'supabase/functions/orders/deno.json', '--allow-env', '--allow-net'];
  const ran = await deno(['run', ...offline, ...configured, FUNCTION], {
    UPSTASH_REDIS_REST_URL: gateway.url,
    UPSTASH_REDIS_REST_TOKEN: TOKEN,
  });
  expect(ran.stderr).toBe('');
  expect(JSON.parse(ran.stdout)).toEqual({
    first: { total: 1 },
    second: { total: 1 },
    loads: 1,
    key: 'orders:anna:2',
  });

  // Key types of one's own, as step 3 of the guide has it: nothing of ours knows the examples.
  await write(
    'supabase/functions/_shared/key-types.ts',
    `import type { KeyTypes } from './cache/protocol/key-types.ts';
import { keyBuilders } from './cache/protocol/keys.ts';
export const types = { basket: { key: 'basket:{id}', entity: 2, ttl: 60 } } as const satisfies KeyTypes;
export const keys = keyBuilders(types);
`,
  );
  await write(
    FUNCTION,
    `import { begin, del, get, getMany, getOrSet, keys, set, stats } from '../_shared/cache.ts';
const key = keys.basket('b1');
const loaded = await getOrSet(key, () => 1);
const hit = await get<number>(key);
const deleted = await del(key);
const kept = await set(key, 2, 60, await begin(key));
const many = [...(await getMany<number>([key])).values()];
console.log(JSON.stringify({ key, loaded, hit, deleted, kept, many, types: Object.keys(stats().types) }));
`,
  );
  await typesAreSound();
  const own = await deno(['run', ...offline, ...configured, FUNCTION], {
    UPSTASH_REDIS_REST_URL: gateway.url,
    UPSTASH_REDIS_REST_TOKEN: TOKEN,
  });
  expect(own.stderr).toBe('');
  expect(JSON.parse(own.stdout)).toEqual({
    key: 'basket:b1',
    loaded: 1,
    hit: 1,
    deleted: expect.any(Number),
    kept: true,
    many: [2],
    types: ['basket'],
  });
}

/** For Deno, and for an editor. */
async function typesAreSound(): Promise<void> {
  const checked = await deno(['check', '--no-config', ...offline, FUNCTION]);
  expect([checked.exitCode, checked.stderr]).toEqual([0, '']);
  const strict = '--noEmit --strict --target es2023 --lib es2023,dom --types node --skipLibCheck'.split(' ');
  const modules = '--module nodenext --allowImportingTsExtensions --erasableSyntaxOnly'.split(' ');
  const tsc = [installedProgram('typescript/bin/tsc'), '--ignoreConfig', ...strict, ...modules, FUNCTION];
  const { exitCode, stdout } = await execa(process.execPath, tsc, { cwd: project, reject: false });
  expect([exitCode, stdout]).toEqual([0, '']);
}
