/**
 * What an application takes over from Fencepost: the migrations of the engine and of the queue's schema, and the cache module.
 * Not the workbench's tables and not the worked example of a key type, which are a project's own business.
 */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { moduleGraph } from './imports.ts';

export interface Kit {
  readonly migrations: readonly KitFile[];
  /** The cache module: cache.ts and what it imports. */
  readonly modules: readonly KitFile[];
  /** Packages that the module imports. */
  readonly packages: readonly string[];
}

export interface KitFile {
  readonly name: string;
  readonly text: string;
}

/** Where the two stand, in a folder laid out as supabase/ is. */
export const MIGRATIONS = 'migrations';
export const MODULES = 'functions/_shared';

const MIGRATION = /^\d+_fencepost_\w+\.sql$/;

/** The folder that holds the kit: beside the built files, where build.mjs copies it; from source, the repository's supabase/. */
export function kitFolder(): string {
  const copied = new URL('./adoption/', import.meta.url);
  return fileURLToPath(existsSync(copied) ? copied : new URL('../../../supabase/', import.meta.url));
}

/**
 * The kit, picked out of a folder that may hold more.
 * @throws the file system's error
 */
export async function readKit(folder: string): Promise<Kit> {
  const read = (path: string) => readFile(join(folder, path), 'utf8');
  const all = async (parent: string, names: readonly string[]) =>
    await Promise.all(names.map(async (name) => ({ name, text: await read(`${parent}/${name}`) })));
  const migrations = (await readdir(join(folder, MIGRATIONS))).filter((name) => MIGRATION.test(name)).sort();
  const graph = await moduleGraph('cache.ts', (name) => read(`${MODULES}/${name}`));
  return {
    migrations: await all(MIGRATIONS, migrations),
    modules: await all(MODULES, graph.files),
    packages: graph.packages,
  };
}
