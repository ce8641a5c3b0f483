/** The capture benchmarks' databases, on one Postgres that flushes every commit, and pgbench. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import pg from 'pg';
import { applyMigrations } from '../../local/parts/migrations.ts';
import { type PostgresOptions, startPostgres, withDatabase } from '../../local/parts/postgres.ts';
import { ensureCommand } from '../../local/system-packages.ts';

/** Every commit is flushed, as in production. The rest keeps checkpoints out of a run of some seconds. */
const DURABLE: PostgresOptions = {
  settings: {
    fsync: 'on',
    full_page_writes: 'on',
    wal_level: 'replica',
    shared_buffers: '512MB',
    max_wal_size: '16GB',
    checkpoint_timeout: '30min',
  },
};

/** A database with the engine of a checkout. */
export interface Engine {
  readonly name: 'present' | 'other';
  /** The folder of the checkout, whose worker runs beside this database. */
  readonly checkout: string;
  readonly url: string;
  /** The table that writers fill: before 29 November 2026 the outbox. */
  readonly table: string;
  query<T extends pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<T[]>;
  /** How long the backend of query() has run on a processor so far (on Linux). */
  processorMs(): Promise<number>;
  /** Forgets everything captured. */
  clear(): Promise<void>;
}

export interface Engines {
  readonly present: Engine;
  readonly all: readonly Engine[];
  stop(): Promise<void>;
}

/**
 * This checkout's engine, and that of another checkout of the repository, each in a database of its own on one server.
 * @param against the folder of the other checkout, with its packages; undefined: this one alone
 */
export async function startEngines(against?: string): Promise<Engines> {
  const server = await startPostgres(DURABLE);
  const clients: pg.Client[] = [];
  const connect = async (connectionString: string): Promise<pg.Client> => {
    const client = new pg.Client({ connectionString });
    await client.connect();
    clients.push(client);
    return client;
  };
  const postgres = await connect(server.url);
  const start = async (name: Engine['name'], checkout: string): Promise<Engine> => {
    await postgres.query(`create database ${name}`);
    const url = withDatabase(server.url, name);
    await applyMigrations(url, checkout);
    const client = await connect(url);
    const query = async <T extends pg.QueryResultRow>(sql: string, values: unknown[] = []): Promise<T[]> =>
      (values.length > 0 ? await client.query<T>(sql, values) : await client.query<T>(sql)).rows;
    const [found] = await query<{ name: string }>(
      `select coalesce(to_regclass('cache_invalidation.changes'), 'cache_invalidation.outbox')::text as name`,
    );
    const table = found?.name ?? '';
    const clear = async () => void (await query(`truncate ${table}`));
    const [backend] = await query<{ pid: number }>('select pg_backend_pid() as pid');
    const processorMs = async () =>
      Number((await readFile(`/proc/${backend?.pid}/schedstat`, 'utf8')).split(' ')[0]) / 1e6;
    return { name, checkout, url, table, query, processorMs, clear };
  };
  const present = await start('present', resolve(import.meta.dirname, '../..'));
  const all = against === undefined ? [present] : [present, await start('other', resolve(against))];
  return {
    present,
    all,
    async stop() {
      await Promise.all(clients.map((client) => client.end()));
      await server.stop();
    },
  };
}

/** The watches that are compared, by the name of the table that has them; `none` has none. */
const watches: Readonly<Record<string, readonly string[]>> = {
  none: [],
  one: [`'quota:{org_id}:*'`],
  three: [`'quota:{org_id}:*'`, `'usage:{org_id}:{provider}:*'`, `'models:{provider}:{model}'`],
  joined: [`'quota:{p.org_id}:*', join => 'public.parents p on p.id = row.parent_id'`],
};

/**
 * Makes the tables public.none, public.one and so on.
 * @param org the organisation of row i, in SQL
 */
export async function createTables(
  engine: Engine,
  names: readonly string[],
  rows: number,
  org = 'i % 1000',
): Promise<void> {
  await engine.query(`create table public.parents (id integer primary key, org_id text);
    insert into public.parents select i, 'org-' || i from generate_series(0, 999) as i;
    analyze public.parents`);
  for (const name of names) {
    await engine.query(`create table public.${name} (id integer primary key, org_id text not null, provider text, model text,
        parent_id integer, used bigint not null default 0, note text);
      insert into public.${name} select i, 'org-' || ${org}, 'openai', 'gpt-5', i % 1000, 0, repeat('x', 60)
        from generate_series(1, ${rows}) as i;
      grant all on public.${name} to authenticated`);
    for (const watch of watches[name] ?? []) {
      await engine.query(`select cache_invalidation.watch('public.${name}', ${watch})`);
    }
    await engine.query(`vacuum analyze public.${name}`);
  }
  await engine.clear();
}

/** One pgbench run. `protocol` is pgbench's. */
export async function pgbench(
  url: string,
  script: string,
  options: { clients: number; seconds: number; protocol: string; flush: string },
): Promise<number> {
  const program = await ensureCommand('pgbench', 'postgresql-contrib');
  const folder = await mkdtemp(join(tmpdir(), 'fencepost-pgbench-'));
  try {
    const file = join(folder, 'script.sql');
    await writeFile(file, script);
    const at = new URL(url);
    const { stdout } = await execa(
      program,
      [
        ...['--no-vacuum', `--protocol=${options.protocol}`, `--client=${options.clients}`, '--jobs=2'],
        ...[`--time=${options.seconds}`, `--file=${file}`, at.pathname.slice(1)],
      ],
      {
        env: {
          PGHOST: at.hostname,
          PGPORT: at.port,
          PGUSER: at.username,
          PGPASSWORD: decodeURIComponent(at.password),
          PGOPTIONS: `-c synchronous_commit=${options.flush}`,
        },
      },
    );
    const failed = Number(/number of failed transactions: ([0-9]+)/.exec(stdout)?.[1]);
    if (failed > 0) throw new Error(`${failed} transactions failed.`);
    return Number(/^tps = ([0-9.]+)/m.exec(stdout)?.[1]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
