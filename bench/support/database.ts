/** The capture benchmarks' database: a Postgres that flushes every commit, and pgbench. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import pg from 'pg';
import { ensureCommand } from '../../local/system-packages.ts';
import { cloneFrom, startTemplate } from '../../tests/support/template.ts';

/** Every commit is flushed, as in production. The rest keeps checkpoints out of a run of some seconds. */
const DURABLE = {
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  wal_level: 'replica',
  shared_buffers: '512MB',
  max_wal_size: '8GB',
  checkpoint_timeout: '30min',
};

export interface BenchDatabase {
  readonly url: string;
  query<T extends pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<T[]>;
  stop(): Promise<void>;
}

/** A migrated database on a server of its own. */
export async function startDatabase(settings: Record<string, string> = {}): Promise<BenchDatabase> {
  const server = await startTemplate({ settings: { ...DURABLE, ...settings } });
  const database = await cloneFrom(server.url);
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  return {
    url: database.url,
    async query<T extends pg.QueryResultRow>(sql: string, values: unknown[] = []) {
      const result = values.length > 0 ? await client.query<T>(sql, values) : await client.query<T>(sql);
      return result.rows;
    },
    async stop() {
      await client.end();
      await database.drop();
      await server.stop();
    },
  };
}

/** One pgbench run. `protocol` is pgbench's; prepared statements unless it is given. */
export async function pgbench(
  url: string,
  script: string,
  options: { clients: number; seconds: number; protocol?: string },
): Promise<{ tps: number; transactions: number; failed: number }> {
  const program = await ensureCommand('pgbench', 'postgresql-contrib');
  const folder = await mkdtemp(join(tmpdir(), 'fencepost-pgbench-'));
  try {
    const file = join(folder, 'script.sql');
    await writeFile(file, script);
    const at = new URL(url);
    const { stdout } = await execa(
      program,
      [
        ...[
          '--no-vacuum',
          `--protocol=${options.protocol ?? 'prepared'}`,
          `--client=${options.clients}`,
          '--jobs=2',
        ],
        ...[`--time=${options.seconds}`, `--file=${file}`, at.pathname.slice(1)],
      ],
      {
        env: {
          PGHOST: at.hostname,
          PGPORT: at.port,
          PGUSER: at.username,
          PGPASSWORD: decodeURIComponent(at.password),
        },
      },
    );
    const number = (pattern: RegExp): number => Number(pattern.exec(stdout)?.[1]);
    return {
      tps: number(/^tps = ([0-9.]+)/m),
      transactions: number(/transactions actually processed: ([0-9]+)/),
      failed: number(/number of failed transactions: ([0-9]+)/),
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
