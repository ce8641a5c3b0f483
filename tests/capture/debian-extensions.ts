/**
 * Extensions that npm does not carry: found where Debian and Ubuntu put them, or installed with apt-get
 * when this process may do that. Nothing is started by the installation.
 */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { aptInstall, oneAtATime } from '../../local/apt-get.ts';

const shares = '/usr/share/postgresql';
const libraries = '/usr/lib/postgresql';

/** Debian's server versions, newest first: 17 in Debian 13, 16 in Ubuntu 24.04, 15 in Debian 12. */
const majors = ['18', '17', '16', '15'] as const;

/** The path of pgTAP's script, or undefined with the reason it cannot be had. */
export async function findPgtap(): Promise<{ path?: string; reason: string }> {
  const find = () =>
    majors
      .map((major) => join(shares, major, 'extension'))
      .filter((folder) => existsSync(folder))
      .flatMap((folder) =>
        readdirSync(folder)
          .filter((file) => /^pgtap--[0-9.]+\.sql$/.test(file))
          .map((file) => join(folder, file)),
      )[0];
  return await orInstall(find, (major) => `postgresql-${major}-pgtap`);
}

/** The folder of a server (with `bin` and `lib`) that has plpgsql_check, or undefined with the reason. */
export async function findPlpgsqlCheck(): Promise<{ path?: string; reason: string }> {
  return await findServer((server) => existsSync(join(server, 'lib/plpgsql_check.so')), 'plpgsql-check');
}

/** The folder of a server that has pg_partman. */
export async function findPartman(): Promise<{ path?: string; reason: string }> {
  return await findServer((server) => existsSync(join(server, 'lib/pg_partman_bgw.so')), 'partman');
}

/** The folder of a server that has pg_repack. */
export async function findRepack(): Promise<{ path?: string; reason: string }> {
  return await findServer((server) => existsSync(join(server, 'bin/pg_repack')), 'repack');
}

/** The folder of a server that has pg_cron. */
export async function findCron(): Promise<{ path?: string; reason: string }> {
  return await findServer((server) => existsSync(join(server, 'lib/pg_cron.so')), 'cron');
}

async function findServer(
  has: (server: string) => boolean,
  extension: string,
): Promise<{ path?: string; reason: string }> {
  const find = () =>
    majors
      .map((major) => join(libraries, major))
      .find((server) => existsSync(join(server, 'bin/postgres')) && has(server));
  return await orInstall(find, (major) => `postgresql-${major}-${extension}`);
}

async function orInstall(
  find: () => string | undefined,
  packageOf: (major: string) => string,
): Promise<{ path?: string; reason: string }> {
  const found = find();
  if (found !== undefined) return { path: found, reason: '' };
  if (process.getuid?.() !== 0 || !existsSync('/usr/bin/apt-get')) {
    return {
      reason: `Install it with: sudo apt-get install -y ${packageOf('15')} (or your server's version)`,
    };
  }
  let reason = '';
  await oneAtATime(async () => {
    if (find() !== undefined) return;
    let wanted = await candidate(packageOf);
    if (wanted === undefined) {
      await execa('apt-get', ['update', '-qq'], { reject: false });
      wanted = await candidate(packageOf);
    }
    if (wanted === undefined) {
      reason = `apt-get knows no ${packageOf('N')}`;
      return;
    }
    const result = await aptInstall('apt-get', wanted);
    reason = result.failed ? `apt-get install ${wanted} failed: ${result.stderr.slice(-500)}` : '';
  });
  const path = find();
  return path === undefined ? { reason } : { path, reason: '' };
}

async function candidate(packageOf: (major: string) => string): Promise<string | undefined> {
  for (const major of majors) {
    const { stdout } = await execa('apt-cache', ['show', '--no-all-versions', packageOf(major)], {
      reject: false,
    });
    if (stdout !== '') return packageOf(major);
  }
  return undefined;
}
