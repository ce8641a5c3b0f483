/**
 * A Supabase project's folder: what is in it, and writing to it, all or nothing. Every file is first written under a temporary
 * name beside its place, and renamed only when all are on the disk. By then everything that usually fails (rights, space, a file
 * where a folder should be) has succeeded. If a rename fails all the same, the files that are there are whole, and the next run
 * adds the others.
 */
import { lstat, mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { describe, ExitCode, WorkerError } from '../lib/errors.ts';
import type { Present } from './plan.ts';

/** @throws WorkerError NO_PROJECT with what to run */
export async function checkProject(folder: string): Promise<void> {
  const root = await stat(folder).catch(() => null);
  if (root?.isDirectory() !== true) {
    throw new WorkerError('NO_PROJECT', `There is no folder ${folder}. Name the root of your project.`, {
      exitCode: ExitCode.usage,
    });
  }
  const config = await stat(join(folder, 'supabase/config.toml')).catch(() => null);
  if (config?.isFile() === true) return;
  throw new WorkerError(
    'NO_PROJECT',
    `${folder} has no supabase/config.toml. Name the root of your project, or make it one first: npx supabase init`,
    { exitCode: ExitCode.configuration },
  );
}

/**
 * @param paths the files to read, from the folder; those that are not there are left out, a link to nothing is empty
 * @throws WorkerError PROJECT_FILES
 */
export async function readProject(folder: string, paths: readonly string[]): Promise<Present> {
  const texts = new Map<string, string>();
  for (const path of paths) {
    const place = join(folder, path);
    const text = await orNull(path, readFile(place, 'utf8'));
    if (text !== null) texts.set(path, text);
    // A link to nothing cannot be read, but it is there, and it is not ours to replace.
    else if ((await orNull(path, lstat(place))) !== null) texts.set(path, '');
  }
  const migrations = await orNull('supabase/migrations', readdir(join(folder, 'supabase/migrations')));
  return { migrations: migrations ?? [], texts };
}

/**
 * Writes all files, or none.
 * @throws WorkerError PROJECT_FILES
 */
export async function writeProject(
  folder: string,
  files: readonly { readonly path: string; readonly text: string }[],
): Promise<void> {
  const temporary = (path: string) => join(folder, dirname(path), `.${basename(path)}.${process.pid}.tmp`);
  const undo: (() => Promise<unknown>)[] = [];
  let current = '';
  let renamed = 0;
  try {
    for (const { path, text } of files) {
      current = path;
      await makeFolder(dirname(join(folder, path)), undo);
      undo.push(() => rm(temporary(path), { force: true }));
      await writeFile(temporary(path), text);
    }
    for (const { path } of files) {
      current = path;
      await rename(temporary(path), join(folder, path));
      renamed += 1;
    }
  } catch (error) {
    for (const step of undo.reverse()) await step().catch(() => undefined);
    throw failure(current, 'written', error, renamed);
  }
}

/** Each missing folder by itself, so that undoing can remove exactly those, if they are still empty. */
async function makeFolder(folder: string, undo: (() => Promise<unknown>)[]): Promise<void> {
  const present = await stat(folder).catch(() => null);
  if (present?.isDirectory() === true) return;
  await makeFolder(dirname(folder), undo);
  await mkdir(folder);
  undo.push(() => rmdir(folder));
}

async function orNull<T>(path: string, reading: Promise<T>): Promise<T | null> {
  try {
    return await reading;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw failure(path, 'read', error);
  }
}

function failure(path: string, what: 'read' | 'written', error: unknown, renamed = 0): WorkerError {
  const changed = renamed === 0 ? 'Nothing was changed' : `Only ${renamed} files were written`;
  const denied = /^(EACCES|EPERM|EROFS)$/.test((error as NodeJS.ErrnoException).code ?? '');
  return new WorkerError(
    'PROJECT_FILES',
    `${changed}: ${path} cannot be ${what} (${describe(error)}). Mend that and run it again.`,
    { exitCode: denied ? ExitCode.denied : ExitCode.configuration, cause: error },
  );
}
