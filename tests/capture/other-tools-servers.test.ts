/**
 * Servers that end or are replaced: a crash that loses commits, a restored base backup, a promoted standby. What the tables and the
 * outbox hold is always of one moment, and a worker that connects anew is handed out all of it.
 */
import { chown, cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import pg from 'pg';
import { afterEach, expect, test } from 'vitest';
import { applyMigrations } from '../../local/parts/migrations.ts';
import { type PostgresPart, startPostgres } from '../../local/parts/postgres.ts';
import { removePath } from '../../local/parts/reaper.ts';
import { folderFor, unprivilegedUser } from '../../local/parts/unprivileged.ts';

const settings = { max_wal_senders: '4', hot_standby: 'on' };
const folders: string[] = [];
const servers: PostgresPart[] = [];
const clients: pg.Client[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) await client.end().catch(() => undefined);
  for (const server of servers.splice(0)) await server.stop();
  for (const folder of folders.splice(0)) await removePath(folder);
});

async function newFolder(): Promise<string> {
  const folder = await folderFor(await unprivilegedUser(), 'other-servers');
  folders.push(folder);
  return folder;
}

async function start(directory: string, more: Record<string, string> = {}): Promise<PostgresPart> {
  const server = await startPostgres({ directory, settings: { ...settings, ...more } });
  servers.push(server);
  return server;
}

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => undefined);
  await client.connect();
  clients.push(client);
  return client;
}

/** A server with the engine and one watched table, which holds the numbers of its transactions. */
async function startPrimary(folder: string, more: Record<string, string> = {}) {
  const server = await start(folder, more);
  await applyMigrations(server.url);
  const client = await connect(server.url);
  await client.query(`create table public.jobs (number integer primary key);
    select cache_invalidation.watch('public.jobs', 'job:{number}'); delete from cache_invalidation.changes`);
  return { server, client };
}

const write = (client: pg.Client, number: number) =>
  client.query('insert into public.jobs values ($1)', [number]);

/** As the leader claims on a new connection. */
async function claimAll(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ targets: string[] | null; drained: boolean }>(
    'select targets, drained from cache_invalidation.claim(null, 100000)',
  );
  expect(rows[0]?.drained).toBe(true);
  return [...(rows[0]?.targets ?? [])].sort();
}

async function jobs(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ target: string }>(
    `select 'job:' || number as target from public.jobs`,
  );
  return rows.map(({ target }) => target).sort();
}

const problems = async (client: pg.Client) =>
  (await client.query('select * from cache_invalidation.problems()')).rows;

/** A copy of a running server's folder, as pg_basebackup takes it. */
async function backUp(from: string, client: pg.Client): Promise<string> {
  const folder = await newFolder();
  const user = await unprivilegedUser();
  await client.query(`select pg_backup_start('copy', true)`);
  await execa('cp', ['-a', `${from}/.`, folder]);
  const { rows } = await client.query<{ labelfile: string }>('select labelfile from pg_backup_stop(false)');
  await cp(join(from, 'data/pg_wal'), join(folder, 'data/pg_wal'), { recursive: true, force: true });
  await execa('rm', ['-f', join(folder, 'data/postmaster.pid')]);
  await writeFile(join(folder, 'data/backup_label'), rows[0]?.labelfile ?? '');
  if (user !== undefined) await execa('chown', ['-R', `${user.uid}:${user.gid}`, folder]);
  return folder;
}

async function crash(server: PostgresPart): Promise<void> {
  // pg_ctl stop -m immediate
  process.kill(server.pid, 'SIGQUIT');
  await server.ended;
}

test('a crash that loses commits loses their changes too, and no others', async () => {
  const folder = await newFolder();
  const { server, client } = await startPrimary(folder, { wal_writer_delay: '10s' });
  for (let number = 1; number <= 20; number += 1) await write(client, number);
  await client.query('set synchronous_commit = off');
  for (let number = 21; number <= 220; number += 1) await write(client, number);
  await crash(server);

  const after = await connect((await start(folder)).url);
  const survivors = await jobs(after);
  expect(survivors.length).toBeGreaterThanOrEqual(20);
  expect(await claimAll(after)).toEqual(survivors);
  expect(await problems(after)).toEqual([]);
  await after.query('delete from cache_invalidation.changes');
  await write(after, 1000);
  expect(await claimAll(after)).toEqual(['job:1000']);
});

test('a restored base backup holds the changes of its moment, with the versions that they name', async () => {
  const folder = await newFolder();
  const { client } = await startPrimary(folder);
  await write(client, 1);
  const copy = await backUp(folder, client);
  await client.query(`select cache_invalidation.watch('public.jobs', 'later:{number}')`);
  await write(client, 2);

  const restored = await connect((await start(copy)).url);
  expect(await claimAll(restored)).toEqual(['job:1']);
  expect(await problems(restored)).toEqual([]);
  await write(restored, 3);
  expect(await claimAll(restored)).toEqual(['job:1', 'job:3']);
});

test('a promoted standby hands out all that is committed and not acknowledged there', async () => {
  const folder = await newFolder();
  const { server, client } = await startPrimary(folder);
  const copy = await backUp(folder, client);
  const user = await unprivilegedUser();
  const signal = join(copy, 'data/standby.signal');
  await writeFile(signal, '');
  if (user !== undefined) await chown(signal, user.uid, user.gid);
  const standby = await start(copy, { primary_conninfo: server.url });
  const follower = await connect(standby.url);

  await write(client, 1);
  const { rows } = await client.query<{ xids: string }>(
    'select xids::text from cache_invalidation.claim(null, 100)',
  );
  await write(client, 2);
  const open = await connect(server.url);
  await open.query('begin; insert into public.jobs values (3)');
  await write(client, 4);
  const { rows: written } = await client.query<{ lsn: string }>('select pg_current_wal_flush_lsn() as lsn');
  await expect
    .poll(
      async () =>
        (await follower.query('select pg_last_wal_replay_lsn() >= $1 as there', [written[0]?.lsn])).rows,
    )
    .toEqual([{ there: true }]);
  // The standby may have received this, or not.
  await client.query('select cache_invalidation.acknowledge($1::xid8[])', [rows[0]?.xids]);
  await crash(server);

  const promoted = await connect(standby.url);
  await promoted.query('select pg_promote()');
  expect(await problems(promoted)).toEqual([]);
  await write(promoted, 5);
  expect((await claimAll(promoted)).filter((target) => target !== 'job:1')).toEqual([
    'job:2',
    'job:4',
    'job:5',
  ]);
  expect(await jobs(promoted)).toEqual(['job:1', 'job:2', 'job:4', 'job:5']);
});
