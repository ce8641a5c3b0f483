/**
 * An upgrade from the engine with statement triggers (former-engine.sql) under load: no write fails, and no read that follows a write's
 * confirmation is older than the write. tests/fixtures/former-engine.gz holds that engine's migrations, as of commit 482564b.
 */
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ClonedDatabase, cloneDatabase } from '../support/database.ts';
import { startSqlWorker } from './sql-worker.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const watched = ['plain', 'parted', 'children', 'slow'] as const;
const ids = 12;
const keys = [...watched, 'notes'].flatMap((table) =>
  Array.from({ length: ids }, (_, id) => `${table}:${id}`),
);

const tables = `
  create table public.plain (id integer primary key, version integer);
  create table public.parted (id integer primary key, version integer) partition by hash (id);
  create table public.parted_0 partition of public.parted for values with (modulus 2, remainder 0);
  create table public.parted_1 partition of public.parted for values with (modulus 2, remainder 1);
  create table public.parents (id integer primary key, name text);
  create table public.children (id integer primary key references public.parents, version integer);
  create table public.slow (id integer primary key, version integer);
  create table public.notes (id integer primary key, version integer);
  insert into public.parents select id, id from generate_series(0, ${ids - 1}) as id;
  ${[...watched, 'notes'].map((table) => `insert into public.${table} select id, 0 from generate_series(0, ${ids - 1}) as id;`).join('\n')}
  select cache_invalidation.watch('public.plain', 'plain:{id}');
  select cache_invalidation.watch('public.parted', 'parted:{id}', columns => '{version}');
  select cache_invalidation.watch('public.children', 'children:{p.name}', join => 'public.parents p on p.id = row.id');
  select cache_invalidation.watch('public.slow', 'slow:{id}', min_interval => '1 minute')`;

let database: ClonedDatabase;
const clients: pg.Client[] = [];

/** A client that any long wait fails. */
async function connect(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url, options: '-c statement_timeout=5s' });
  await client.connect();
  clients.push(client);
  return client;
}

beforeAll(async () => {
  database = await cloneDatabase();
});

afterAll(async () => {
  await Promise.all(clients.map((client) => client.end()));
  await database?.drop();
});

/** The versions that readers have cached. As with fences, what was loaded before an invalidation is not stored after it. */
class ModelCache {
  readonly versions = new Map<string, number>();
  readonly #fences = new Map<string, object>();

  async read(key: string, load: (key: string) => Promise<number>): Promise<void> {
    if (this.versions.has(key)) return;
    const fence = {};
    if (!this.#fences.has(key)) this.#fences.set(key, fence);
    const seen = this.#fences.get(key);
    const version = await load(key);
    if (this.#fences.get(key) === seen) this.versions.set(key, version);
  }

  readonly invalidate = (target: string): void => {
    for (const key of keys) {
      if (key !== target && !(target.endsWith('*') && key.startsWith(target.slice(0, -1)))) continue;
      this.versions.delete(key);
      this.#fences.delete(key);
    }
  };
}

async function upgradeScript(): Promise<string> {
  const script = await readFile(`${repository}/tests/capture/former-engine.sql`, 'utf8');
  const folder = `${repository}/supabase/migrations`;
  const files = (await readdir(folder)).filter((file) => /_fencepost_(?!queue)/.test(file)).sort();
  const engine = await Promise.all(files.map((file) => readFile(`${folder}/${file}`, 'utf8')));
  expect(script).toContain('\\i engine.sql');
  return script.replace('\\i engine.sql', () => engine.join('\n'));
}

test('an upgrade from the engine with statement triggers fails no write and loses none', async () => {
  const admin = await connect();
  const script = await upgradeScript();
  await admin.query('drop schema cache_invalidation cascade');
  await admin.query(
    gunzipSync(await readFile(`${repository}/tests/fixtures/former-engine.gz`)).toString('utf8'),
  );
  await admin.query(tables);

  const cache = new ModelCache();
  const committed = new Map<string, number>();
  const stale: string[] = [];
  const failed: unknown[] = [];
  let commits = 0;
  let writing = true;
  let former = true;

  async function update(client: pg.Client, key: string): Promise<() => void> {
    const [table, id] = key.split(':');
    const { rows } = await client.query<{ version: number }>(
      `update public.${table} set version = version + 1 where id = ${id} returning version`,
    );
    return () => committed.set(key, rows[0]?.version ?? Number.NaN);
  }

  /** Transactions of two tables, in every order; each writer has rows of its own. */
  async function write(number: number): Promise<void> {
    const client = await connect();
    for (let round = number; writing; round += 1) {
      const first = watched[round % 4];
      const second = watched[(round + 1 + (Math.floor(round / 4) % 3)) % 4];
      const id = number + 4 * (round % 2);
      await client.query('begin');
      const done = [await update(client, `${first}:${id}`), await update(client, `${second}:${id}`)];
      await client.query('commit');
      for (const note of done) note();
      commits += 1;
    }
  }

  async function read(): Promise<void> {
    const client = await connect();
    const load = async (key: string) => {
      const [table, id] = key.split(':');
      const { rows } = await client.query(`select version from public.${table} where id = ${id}`);
      return rows[0].version as number;
    };
    while (writing) {
      for (const key of keys) await cache.read(key, load);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Once neither table names a key, nothing older than the last write before may be readable. */
  async function check(start: number): Promise<void> {
    const client = await connect();
    for (let turn = start; writing; turn += 1) {
      const key = keys[turn % keys.length] ?? '';
      const written = committed.get(key) ?? 0;
      const names = [key, key.replace(/:.*/, ':*'), '*'];
      for (let confirmed = false; writing && !confirmed; ) {
        const { rows } = await client.query<{ confirmed: boolean }>(
          `select not exists (select from cache_invalidation.outbox where target = any ($1))
             and not exists (select from cache_invalidation.pending where target = any ($1)) as confirmed`,
          [names],
        );
        confirmed = rows[0]?.confirmed === true;
        const version = cache.versions.get(key);
        if (confirmed && version !== undefined && version < written)
          stale.push(`${key} is ${version} after ${written}`);
      }
    }
  }

  async function deliverAsFormerWorker(): Promise<void> {
    const client = await connect();
    for (let position: string | null = null; former; ) {
      const {
        rows,
      }: pg.QueryResult<Record<'position' | 'xids' | 'ids', string> & { targets: string[] | null }> =
        await client.query(
          'select next_position::text as position, xids::text, ids::text, targets from cache_invalidation.claim($1)',
          [position],
        );
      position = rows[0]?.position ?? null;
      for (const target of rows[0]?.targets ?? []) cache.invalidate(target);
      // Its throttling is not played: what waits for it stands in pending below.
      if (rows[0]?.targets)
        await client.query('select cache_invalidation.acknowledge($1, $2, false)', [
          rows[0].xids,
          rows[0].ids,
        ]);
    }
  }

  const reached = async (count: number): Promise<void> => {
    const until = commits + count;
    while (commits < until && writing) await new Promise((resolve) => setImmediate(resolve));
  };

  const delivering = deliverAsFormerWorker();
  const running = Promise.all([
    ...[0, 1, 2, 3].map(write),
    ...[0, 1].map(read),
    ...[0, 20, 40].map(check),
  ]).catch((error: unknown) => {
    writing = false;
    failed.push(error);
  });
  await reached(200);

  // Open across the upgrade, one of them with a snapshot; they write to watched tables only after it.
  const [late, lateSnapshot, holder] = [await connect(), await connect(), await connect()];
  await late.query('begin');
  const lateNote = await update(late, 'notes:9');
  await lateSnapshot.query('begin isolation level repeatable read; select from public.notes');

  former = false;
  await delivering;
  // What the former worker leaves: targets given by hand, targets that Redis refused, and whatever is written from now on.
  for (const key of ['notes:0', 'notes:1']) {
    while (!cache.versions.has(key) && writing) await new Promise((resolve) => setImmediate(resolve));
    await admin.query('begin');
    const note = await update(admin, key);
    await admin.query(
      key === 'notes:0'
        ? `select cache_invalidation.invalidate('notes:0')`
        : `insert into cache_invalidation.pending (target, why, due_at) values ('notes:1', 'refused', now())`,
    );
    await admin.query('commit');
    note();
  }
  await reached(50);

  // The upgrade gives way to a transaction that has written to a watched table.
  await holder.query('begin');
  const heldNote = await update(holder, 'plain:10');
  let refusals = 0;
  for (let upgraded = false; !upgraded; ) {
    try {
      await admin.query(script);
      upgraded = true;
    } catch (error) {
      if ((error as pg.DatabaseError).code !== '55P03') throw error;
      await admin.query('rollback');
      refusals += 1;
      if (refusals > 1) continue;
      await holder.query('commit');
      heldNote();
    }
  }
  expect(refusals).toBeGreaterThan(0);
  await reached(50);

  const worker = await startSqlWorker({
    url: database.url,
    invalidate: (rows) => {
      for (const { target } of rows) cache.invalidate(target);
    },
    vacuumEvery: 0,
  });
  await reached(200);
  await late.query(`select cache_invalidation.invalidate('notes:9')`);
  for (const [client, key] of [
    [late, 'plain:11'],
    [lateSnapshot, 'parted:11'],
  ] as const) {
    const note = await update(client, key);
    await reached(20);
    await client.query('commit');
    if (client === late) lateNote();
    note();
  }
  await reached(200);
  writing = false;
  await running;
  await worker.asleep();
  await worker.stop();

  expect({ failed, stale }).toEqual({ failed: [], stale: [] });
  const { rows } = await admin.query<{ key: string; version: number }>(
    [...watched, 'notes']
      .map((table) => `select '${table}:' || id as key, version from public.${table}`)
      .join(' union all '),
  );
  expect(rows.filter(({ key, version }) => (cache.versions.get(key) ?? version) !== version)).toEqual([]);
  const { rows: watches } = await admin.query(
    `select target, columns, min_interval::text, join_clause is not null as joined from cache_invalidation.watches
     where rel::text = any ($1) and implied_by is null order by id`,
    [watched],
  );
  expect(watches).toEqual([
    { target: 'plain:{id}', columns: null, min_interval: null, joined: false },
    { target: 'parted:{id}', columns: ['version'], min_interval: null, joined: false },
    { target: 'children:{p.name}', columns: null, min_interval: null, joined: true },
    { target: 'slow:{id}', columns: null, min_interval: '00:01:00', joined: false },
  ]);
  expect((await admin.query('select * from cache_invalidation.problems()')).rows).toEqual([]);
});
