/**
 * What each part of capture costs, in processor instructions of one whole update by primary key (prepared statement, its own
 * transaction): a figure that, unlike throughput, is the same to a percent on every machine and in every minute. Waiting, the
 * kernel's part and the client's are not in it.
 *
 *     npx tsx bench/capture/instructions.ts [--only none,statement_least,fencepost]
 *
 * The tables of triggers.ts are made on an ordinary server; a copy of its files is then run by valgrind's callgrind. Each table is
 * updated 200 times in one connection and 1 200 times in another, and the difference counts, so that starting does not.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import getPort from 'get-port';
import pg from 'pg';
import { ensureCommand } from '../../local/system-packages.ts';
import { type Stand, startStand } from './support.ts';
import { captured, createTables, rows } from './triggers.ts';

const { values: options } = parseArgs({
  options: { only: { type: 'string', default: ['none', ...captured.keys()].join(',') } },
});

interface CountedServer {
  readonly url: string;
  /** Instructions that a finished backend ran. */
  instructions(backend: number): Promise<number>;
  stop(): Promise<void>;
}

/** A copy of the stand's server under callgrind; the stand itself is not changed. */
async function startCounted(stand: Stand): Promise<CountedServer> {
  const valgrind = await ensureCommand('valgrind', 'valgrind');
  await stand.query('checkpoint');
  const [source] = await stand.query<{ data: string }>(`select current_setting('data_directory') as data`);
  if (source === undefined) throw new Error('The server does not say where its files are.');
  const { uid, gid } = await stat(source.data);
  // the command line that started the server, which begins with the program
  const [program = 'postgres'] = (await readFile(join(source.data, 'postmaster.opts'), 'utf8')).split(' ');

  const folder = await mkdtemp(join(tmpdir(), 'fencepost-instructions-'));
  const data = join(folder, 'data');
  const counts = join(folder, 'counts');
  await cp(source.data, data, { recursive: true, preserveTimestamps: true });
  await rm(join(data, 'postmaster.pid'));
  await mkdir(counts);
  await execa('chown', ['-R', `${uid}:${gid}`, folder]);

  const port = await getPort();
  const at = new URL(stand.url);
  at.port = String(port);
  const server = spawn(
    valgrind,
    [
      ...['--tool=callgrind', '--trace-children=yes', `--callgrind-out-file=${join(counts, '%p')}`],
      ...[program, '-D', data, '-p', String(port), '-c', 'listen_addresses=127.0.0.1'],
      ...['-c', 'unix_socket_directories=', '-c', 'shared_buffers=512MB'],
      // Vacuum would be counted nowhere, and change what the next update finds.
      ...['-c', 'autovacuum=off'],
    ],
    { uid, gid, stdio: 'ignore' },
  );
  await untilReady(at.href, server);
  return {
    url: at.href,
    async instructions(backend) {
      // callgrind writes the file while the process ends
      for (;;) {
        const text = await readFile(join(counts, String(backend)), 'utf8').catch(() => '');
        const total = /^totals: (\d+)/m.exec(text)?.[1];
        if (total !== undefined) return Number(total);
        await pause(100);
      }
    },
    async stop() {
      server.kill('SIGINT');
      if (server.exitCode === null) await once(server, 'exit');
      await rm(folder, { recursive: true });
    },
  };
}

async function untilReady(url: string, server: ChildProcess): Promise<void> {
  for (;;) {
    if (server.exitCode !== null) throw new Error(`Postgres under valgrind ended with ${server.exitCode}.`);
    const client = new pg.Client({ connectionString: url });
    try {
      await client.connect();
      await client.end();
      return;
    } catch {
      await pause(500);
    }
  }
}

/** Instructions of a connection that updates so many rows, one by one. */
async function countUpdates(server: CountedServer, name: string, updates: number): Promise<number> {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  const { rows: answer } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  for (let number = 0; number < updates; number += 1) {
    // 7 919 is a prime: rows all over the table, the same in each run
    await client.query({
      name: 'update',
      text: `update public.${name} set used = used + 1 where id = $1`,
      values: [((number * 7919) % rows) + 1],
    });
  }
  await client.end();
  return server.instructions(answer[0]?.pid ?? 0);
}

async function main(): Promise<void> {
  const stand = await startStand();
  try {
    await createTables(stand);
    const server = await startCounted(stand);
    try {
      for (const name of options.only.split(',')) {
        const few = await countUpdates(server, name, 200);
        const many = await countUpdates(server, name, 1200);
        const each = Math.round((many - few) / 1000);
        console.log(`${String(each).padStart(8)}  ${captured.get(name) ?? 'no trigger'}`);
      }
    } finally {
      await server.stop();
    }
  } finally {
    await stand.stop();
  }
}

await main();
process.exit(0);
