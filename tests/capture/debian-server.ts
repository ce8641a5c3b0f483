/**
 * Debian's own server, for C extensions that Debian builds for it and npm does not carry; started as an ordinary user in a temporary
 * folder, with the engine's migrations applied.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { chown } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import type { Part } from '../../local/parts/part.ts';
import { onFreePort } from '../../local/parts/ports.ts';
import { runToEnd, startProcess } from '../../local/parts/process.ts';
import { removePath } from '../../local/parts/reaper.ts';
import { folderFor, unprivilegedUser } from '../../local/parts/unprivileged.ts';

const migrations = fileURLToPath(new URL('../../supabase/migrations', import.meta.url));

export interface DebianServer extends Part {
  readonly port: number;
  /** As superuser. */
  readonly client: pg.Client;
}

/**
 * @param programs the folder that has `bin/postgres`
 * @param before SQL that runs before the migrations
 */
export async function startDebianServer(
  programs: string,
  { settings = [], before = '' }: { readonly settings?: readonly string[]; readonly before?: string } = {},
): Promise<DebianServer> {
  const user = await unprivilegedUser();
  const folder = await folderFor(user, 'debian-postgres');
  if (user !== undefined) await chown(folder, user.uid, user.gid);
  const data = join(folder, 'data');
  const initial = ['--username=postgres', '--auth=trust', '--encoding=UTF8', '--locale=C.UTF-8', '--no-sync'];
  await runToEnd({
    name: 'initdb',
    file: join(programs, 'bin/initdb'),
    arguments: [`--pgdata=${data}`, ...initial],
    user,
    folder,
  });
  const all = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', 'fsync=off', ...settings];
  const { port, server } = await onFreePort({}, async (free) => ({
    port: free,
    server: await startProcess({
      name: 'Postgres',
      file: join(programs, 'bin/postgres'),
      arguments: ['-D', data, '-p', String(free), ...all.flatMap((setting) => ['-c', setting])],
      user,
      folder,
      endings: [['SIGINT', 3_000]],
      ready: (line) => line.includes('database system is ready to accept connections'),
      readyWithin: 30_000,
    }),
  }));
  const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
  await client.connect();
  await client.query(before);
  for (const file of readdirSync(migrations).sort()) {
    if (file.includes('_fencepost_')) await client.query(readFileSync(join(migrations, file), 'utf8'));
  }
  return {
    name: 'Postgres of Debian',
    port,
    client,
    stop: async () => {
      await client.end();
      await server.stop();
      await removePath(folder);
    },
  };
}
