/**
 * What an application takes over: the migrations of the engine and its queue, and the cache module with a cache.ts and a
 * key-types.ts to start from. Nothing of the workbench is part of it.
 */
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Template {
  readonly migrations: readonly TemplateFile[];
  /** cache.ts and key-types.ts, made of starter/, and the folder cache/. */
  readonly modules: readonly TemplateFile[];
}

export interface TemplateFile {
  /** Where it goes, from its folder, with `/` in between. */
  readonly name: string;
  /** Where it stands in the template: the files to start from are in a folder of their own. */
  readonly source: string;
  readonly text: string;
}

/** The folders of migrations and module, below a folder laid out as supabase/ is. */
export const MIGRATIONS = 'migrations';
export const MODULES = 'functions/_shared';

/** The packages that the module imports. */
export const PACKAGES = ['@upstash/redis', 'lru-cache'] as const;

const MIGRATION = /^\d+_fencepost(_\w+)?\.sql$/;
const MODULE = /^(?:starter|cache)\/.+(?<!\.test)\.ts$/;
const STARTER = 'starter/';

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
    const read = async (source: string): Promise<TemplateFile> => {
      const text = await readFile(join(folder, parent, source), 'utf8');
      if (!source.startsWith(STARTER)) return { name: source, source, text };
      // One folder up, where the cache module is beside it.
      return { name: source.slice(STARTER.length), source, text: text.replaceAll("'../", "'./") };
    };
    return await Promise.all(names.sort().map(read));
  };
  return { migrations: await filesOf(MIGRATIONS, MIGRATION), modules: await filesOf(MODULES, MODULE) };
}
