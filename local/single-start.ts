/**
 * One stack a folder: a second `npm start` would overwrite the first one's .local/stack.json. The lock is a file with the
 * owner's process id, made with one atomic operation. A lock whose owner is dead is taken over.
 */
import { readFileSync } from 'node:fs';
import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { guardFile, ownerMark, removeFile } from './parts/reaper.ts';

/** Another process runs the stack of this clone. */
export class AlreadyRunning extends Error {
  readonly code = 'ALREADY_RUNNING';
  readonly pid: number;

  constructor(pid: number, folder: string) {
    super(
      `Fencepost is already running in this folder (process ${pid}); its addresses are in ${join(folder, 'stack.json')}.\n` +
        `Use that one, or stop it first: Ctrl-C in its terminal, or kill ${pid}.`,
    );
    this.name = 'AlreadyRunning';
    this.pid = pid;
  }
}

/**
 * Takes the lock until `release` is called or this process dies. Of several that try at the same moment one gets it.
 * @param folder `.local` of the clone; made when missing
 * @throws AlreadyRunning while its owner lives
 */
export async function takeLock(folder: string): Promise<{ release(): Promise<void> }> {
  await mkdir(folder, { recursive: true });
  const file = join(folder, 'start.lock');
  const mark = ownerMark.FENCEPOST_OWNER;
  // Written aside and linked, so that the lock is never seen without its owner.
  const draft = `${file}.${process.pid}`;
  guardFile(draft, mark);
  await writeFile(draft, `${process.pid}\n${mark}\n`, { mode: 0o600 });
  try {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await link(draft, file);
        guardFile(file, mark);
        return { release: () => removeFile(file, mark) };
      } catch (error) {
        if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST') || attempt === 5)
          throw error;
      }
      await removeStale(file, folder);
    }
  } finally {
    await removeFile(draft, mark);
  }
}

/**
 * Removes a lock whose owner is dead. It is moved aside and read again first: another process may have replaced it since it was
 * read. A lock whose owner lives is put back.
 * @throws AlreadyRunning when its owner lives
 */
async function removeStale(file: string, folder: string): Promise<void> {
  const found = await ownerOf(file);
  if (isStart(found)) throw new AlreadyRunning(found, folder);
  const aside = `${file}.stale.${process.pid}`;
  try {
    await rename(file, aside);
  } catch {
    // Another process has removed it.
    return;
  }
  const moved = await ownerOf(aside);
  if (isStart(moved)) await link(aside, file).catch(() => undefined);
  await rm(aside, { force: true });
}

/** The process id in the lock; 0 when there is none. */
async function ownerOf(file: string): Promise<number> {
  return Number((await readFile(file, 'utf8').catch(() => '')).split('\n')[0]);
}

/** Whether that process lives and is an `npm start`: its id may have been given to another program since. */
function isStart(pid: number): boolean {
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    // EPERM: it lives, and belongs to another user.
    if (!(error instanceof Error && 'code' in error && error.code === 'EPERM')) return false;
  }
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('start.ts');
  } catch {
    return process.platform !== 'linux';
  }
}
