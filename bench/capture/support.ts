/**
 * What the capture benchmarks share: a Postgres with real durability, a table of quotas in several variants, pgbench, and
 * the draining worker of tests/capture/drain.ts in a process of its own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import pg from 'pg';
import { ensureCommand } from '../../local/system-packages.ts';
import { cloneFrom, startTemplate } from '../../tests/support/template.ts';

/** As in production: every commit is flushed. The rest keeps checkpoints out of a run of some seconds. */
const durable = {
  fsync: 'on',
  full_page_writes: 'on',
  synchronous_commit: 'on',
  wal_level: 'replica',
  shared_buffers: '512MB',
  max_wal_size: '8GB',
  checkpoint_timeout: '30min',
};

export interface Stand {
  readonly url: string;
  query<T extends pg.QueryResultRow>(sql: string, values?: unknown[]): Promise<T[]>;
  stop(): Promise<void>;
}

/** A migrated database on a server of its own. */
export async function startStand(settings: Record<string, string> = {}): Promise<Stand> {
  const server = await startTemplate({ settings: { ...durable, ...settings } });
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

/** Transactions per second of one pgbench run; `protocol` as pgbench names it, with prepared statements unless it is given. */
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

export interface DrainReport {
  readonly rows: number;
  readonly claims: number;
  /** Milliseconds, median and 99th percentile, over claims that found rows. */
  readonly claimP50: number;
  readonly claimP99: number;
  readonly acknowledgeP50: number;
}

/** A draining worker in its own process; `stop` gives what it measured. */
export async function startDrainProcess(url: string): Promise<{ stop(): Promise<DrainReport> }> {
  const tsx = createRequire(import.meta.url).resolve('tsx');
  const file = fileURLToPath(new URL('drain-process.ts', import.meta.url));
  const child: ChildProcess = spawn(process.execPath, ['--import', tsx, file, url], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk;
  });
  while (!output.includes('ready\n')) {
    if (child.exitCode !== null) throw new Error('The draining process ended.');
    await Promise.race([once(child.stdout ?? child, 'data'), once(child, 'exit')]);
  }
  return {
    async stop() {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
      return JSON.parse(output.slice(output.indexOf('{'))) as DrainReport;
    },
  };
}
