/**
 * What capture costs writers in processor instructions: of a whole update by primary key (prepared, its own transaction), and of
 * each row of a statement that updates many. Unlike throughput, they are the same to a percent on every machine and in every
 * minute. Waiting, the kernel's part and the client's are not in them.
 *
 *     npx tsx bench/capture/instructions.ts [--against ../before] [--variants one,three,joined]
 *
 * The variants and `--against` are those of throughput.ts. Valgrind's callgrind runs a copy of the server's files and counts two
 * connections for each figure, of which one does more than the other; the difference counts, so that starting does not.
 */
import { spawn } from 'node:child_process';
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
import { createTables, type Engine, startEngines } from '../support/database.ts';

const { values: options } = parseArgs({
  options: {
    against: { type: 'string' },
    variants: { type: 'string', default: 'one,three,joined' },
  },
});

const ROWS = 20_000;

/** A copy of the server's files under callgrind, and where the counts of its finished backends appear. */
async function startCounted(
  engine: Engine,
): Promise<{ port: number; counts: string; stop(): Promise<void> }> {
  const valgrind = await ensureCommand('valgrind', 'valgrind');
  await engine.query('checkpoint');
  const [source] = await engine.query<{ data: string }>(`select current_setting('data_directory') as data`);
  if (source === undefined) throw new Error('The server does not say where its files are.');
  const { uid, gid } = await stat(source.data);
  // the command line that started the server begins with the program
  const [program = 'postgres'] = (await readFile(join(source.data, 'postmaster.opts'), 'utf8')).split(' ');

  const folder = await mkdtemp(join(tmpdir(), 'fencepost-instructions-'));
  const [data, counts] = [join(folder, 'data'), join(folder, 'counts')];
  await cp(source.data, data, { recursive: true, preserveTimestamps: true });
  await rm(join(data, 'postmaster.pid'));
  await mkdir(counts);
  await execa('chown', ['-R', `${uid}:${gid}`, folder]);

  const port = await getPort();
  // Vacuum would be counted nowhere, and change what the next update finds.
  const settings = 'listen_addresses=127.0.0.1 unix_socket_directories= shared_buffers=256MB autovacuum=off';
  const server = spawn(
    valgrind,
    [
      ...['--tool=callgrind', '--trace-children=yes', `--callgrind-out-file=${join(counts, '%p')}`],
      ...[
        program,
        '-D',
        data,
        '-p',
        String(port),
        ...settings.split(' ').flatMap((setting) => ['-c', setting]),
      ],
    ],
    { uid, gid, stdio: 'ignore' },
  );
  const stop = async () => {
    server.kill('SIGINT');
    if (server.exitCode === null) await once(server, 'exit');
    await rm(folder, { recursive: true });
  };
  for (;;) {
    if (server.exitCode !== null) throw new Error(`Postgres under valgrind ended with ${server.exitCode}.`);
    const isReady = await connect(engine, port).then(
      (client) => client.end().then(() => true),
      () => false,
    );
    if (isReady) return { port, counts, stop };
    await pause(500);
  }
}

async function connect(engine: Engine, port: number): Promise<pg.Client> {
  const at = new URL(engine.url);
  at.port = String(port);
  const client = new pg.Client({ connectionString: at.href });
  await client.connect();
  return client;
}

/** Instructions of a connection that updates so many rows one by one, and then so many in one statement. */
async function count(engine: Engine, table: string, single: number, many: number): Promise<number> {
  const client = await connect(engine, server.port);
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  for (let number = 0; number < single; number += 1) {
    // 7 919 is a prime: rows all over the table, the same in each run
    const values = [((number * 7919) % ROWS) + 1];
    const text = `update public.${table} set used = used + 1 where id = $1`;
    await client.query({ name: 'update', text, values });
  }
  await client.query(`update public.${table} set used = used + 1 where id between 10001 and 10000 + $1`, [
    many,
  ]);
  await client.end();
  // callgrind writes the file while the process ends
  for (;;) {
    const text = await readFile(join(server.counts, String(rows[0]?.pid)), 'utf8').catch(() => '');
    const total = /^totals: (\d+)/m.exec(text)?.[1];
    if (total !== undefined) return Number(total);
    await pause(100);
  }
}

async function measure(engine: Engine, table: string): Promise<void> {
  const few = await count(engine, table, 100, 0);
  const single = ((await count(engine, table, 600, 0)) - few) / 500;
  const many = ((await count(engine, table, 100, 4000)) - few) / 4000;
  console.log(
    `${`${table}, ${engine.name}`.padEnd(16)} ${String(Math.round(single)).padStart(8)} an update ${String(Math.round(many)).padStart(8)} a row of many`,
  );
}

const variants = options.variants.split(',');
const engines = await startEngines(options.against);
for (const engine of engines.all) await createTables(engine, ['none', ...variants], ROWS);
const server = await startCounted(engines.present);
try {
  await measure(engines.present, 'none');
  for (const table of variants) {
    for (const engine of engines.all) await measure(engine, table);
  }
} finally {
  await server.stop();
  await engines.stop();
}
process.exit(0);
