/** The two programs of Postgres that the parts run, always as a user that Postgres accepts. */
import { join } from 'node:path';
import { PartError } from './part.ts';
import { type RunningProcess, runToEnd, startProcess } from './process.ts';
import type { SystemUser } from './unprivileged.ts';

/** Where the programs are and who runs them. */
export interface PostgresRuntime {
  readonly programs: string;
  /** The exact release, e.g. `17.9.0-beta.17`. */
  readonly release: string;
  readonly user: SystemUser | undefined;
}

/** The server's messages stay English whatever the user's locale: their wording decides what is ready or taken. */
const environment = { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_MESSAGES: 'C', TZ: 'UTC' };

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

/** How often a start is tried while backends of a killed predecessor still hold the cluster, 100 ms apart. */
const ATTEMPTS = 20;

/**
 * Makes an empty cluster in `folder`/data, with the password in `folder`/password.
 * @throws PartError PART_START_FAILED
 */
export async function initialise(runtime: PostgresRuntime, folder: string): Promise<void> {
  await runToEnd({
    name: 'initdb',
    file: join(runtime.programs, 'bin/initdb'),
    arguments: [
      `--pgdata=${join(folder, 'data')}`,
      '--username=postgres',
      '--auth=scram-sha-256',
      `--pwfile=${join(folder, 'password')}`,
      '--encoding=UTF8',
      `--locale=${process.platform === 'linux' ? 'C.UTF-8' : 'en_US.UTF-8'}`,
      '--lc-messages=C',
      '--no-sync',
      '--no-instructions',
    ],
    environment,
    inheritEnvironment: false,
    user: runtime.user,
    folder,
    readyWithin: 60_000,
  });
}

/**
 * Runs the server on the cluster in `folder`/data; ready when it accepts connections.
 * @throws PartError PORT_TAKEN or PART_START_FAILED
 */
export async function runServer(
  runtime: PostgresRuntime,
  folder: string,
  port: number,
  settings: Readonly<Record<string, string>> = {},
): Promise<RunningProcess> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await startProcess({
        name: 'Postgres',
        file: join(runtime.programs, 'bin/postgres'),
        arguments: [
          ...['-D', join(folder, 'data'), '-p', String(port)],
          ...Object.entries({ ...defaults, ...settings }).flatMap(([name, value]) => [
            '-c',
            `${name}=${value}`,
          ]),
        ],
        environment,
        inheritEnvironment: false,
        user: runtime.user,
        folder,
        endings,
        orphanSignal: 'SIGQUIT',
        // A standby accepts only read-only ones.
        ready: (line) => /database system is ready to accept (read-only )?connections/.test(line),
        readyWithin: 30_000,
      });
    } catch (error) {
      const inUse = error instanceof PartError && error.message.includes('pre-existing shared memory block');
      if (!inUse || attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
