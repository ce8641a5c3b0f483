/**
 * What an application takes over: the migrations of the engine and its queue, and the cache module with a key-types.ts to start
 * from. The workbench's migrations and that of the workflow example are no part of it.
 */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Template {
  readonly migrations: readonly TemplateFile[];
  /** cache.ts, key-types.ts and the folder cache/. */
  readonly modules: readonly TemplateFile[];
}

export interface TemplateFile {
  /** From its folder, with `/` in between. */
  readonly name: string;
  readonly text: string;
}

/** The folders of migrations and module, below a folder laid out as supabase/ is. */
export const MIGRATIONS = 'migrations';
export const MODULES = 'functions/_shared';

/** The one package that the module imports. */
export const PACKAGE = '@upstash/redis';

const MIGRATION = /^\d+_fencepost(_\w+)?\.sql$/;
const MODULE = /^(?:cache|key-types|cache\/.+)(?<!\.test)\.ts$/;

/** The folder with the template: beside the built files, where build.mjs copies it; from source, the repository's supabase/. */
export function templateFolder(): string {
  const copied = new URL('./adoption/', import.meta.url);
  return fileURLToPath(existsSync(copied) ? copied : new URL('../../../supabase/', import.meta.url));
}

/**
 * Reads the template out of a folder that may hold more.
 * @throws the file system's error
 */
export async function readTemplate(folder: string): Promise<Template> {
  const filesOf = async (parent: string, pattern: RegExp): Promise<TemplateFile[]> => {
    const all = await readdir(join(folder, parent), { recursive: true });
    const names = all.map((name) => name.replaceAll(sep, '/')).filter((name) => pattern.test(name));
    const read = async (name: string) => ({ name, text: await readFile(join(folder, parent, name), 'utf8') });
    return await Promise.all(names.sort().map(read));
  };
  return { migrations: await filesOf(MIGRATIONS, MIGRATION), modules: await filesOf(MODULES, MODULE) };
}
