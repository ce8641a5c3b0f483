/**
 * The parent's side of the reaper (reaper-process.mjs): one a Node process, started with the first child. With it this process
 * may die at any moment, `kill -9` included, and leaves no process and no folder behind.
 *
 * A normal stop does not need it: each part cleans up after itself and tells the reaper to forget it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** In the environment of every child: the reaper recognises by it what belongs to this process. */
export const ownerMark = { FENCEPOST_OWNER: `${process.pid}-${randomBytes(8).toString('hex')}` } as const;

let reaper: ChildProcess | undefined;
let sealed = false;

function tell(message: Record<string, string | number>): void {
  if (reaper === undefined) {
    if (sealed) return;
    reaper = spawn(process.execPath, [fileURLToPath(new URL('reaper-process.mjs', import.meta.url))], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      env: {},
    });
    reaper.unref();
    // The reaper must not keep this process alive, and a reaper that was killed must not end it.
    const pipe = reaper.stdin;
    if (pipe !== null) {
      pipe.on('error', () => undefined);
      if ('unref' in pipe && typeof pipe.unref === 'function') pipe.unref();
    }
    tell({ mark: ownerMark.FENCEPOST_OWNER });
  }
  reaper?.stdin?.write(`${JSON.stringify(message)}\n`);
}

/**
 * From now on the child is stopped when this process dies.
 * @param signal what asks it for an orderly end; SIGKILL follows after two seconds.
 */
export function guardChild(pid: number, signal: NodeJS.Signals): void {
  tell({ child: pid, signal });
}

/** The child has ended; its process id may soon be another's. */
export function forgetChild(pid: number): void {
  tell({ gone: pid });
}

/** From now on the folder is removed when this process dies. */
function guardPath(path: string): void {
  tell({ path });
}

/** From now on the file is removed when this process dies, if it still holds that text then. */
export function guardFile(path: string, holding: string): void {
  tell({ path, holding });
}

/** Removes a guarded folder now. */
export async function removePath(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  tell({ pathGone: path });
}

/** Removes a guarded file now, if it still holds that text. */
export async function removeFile(path: string, holding: string): Promise<void> {
  const content = await readFile(path, 'utf8').catch(() => '');
  if (content.includes(holding)) await rm(path, { force: true });
  tell({ pathGone: path });
}

/**
 * A new, empty, private folder that goes away with this process at the latest.
 * @param purpose a word for its name, e.g. `postgres`
 * @param parent where to put it; by default the system's temporary folder
 * @throws Error when this process is ending
 */
export async function temporaryFolder(purpose: string, parent = tmpdir()): Promise<string> {
  if (sealed) throw new Error('No folder is made any more: this process is ending.');
  // Synchronous: the process cannot end between making the folder and reporting it.
  const folder = mkdtempSync(join(parent, `fencepost-${purpose}-`));
  guardPath(folder);
  return folder;
}

/** Whether this process is ending: nothing new may be started. */
export function isSealed(): boolean {
  return sealed;
}

/**
 * Lets the reaper clean up whatever is left, and waits until it has: at most a second for processes that end when asked,
 * and the time it takes to remove the folders.
 * @param options.seal nothing can be started any more, also not by work that is still under way
 */
export async function dismissReaper(options: { seal?: boolean } = {}): Promise<void> {
  sealed ||= options.seal ?? false;
  const leaving = reaper;
  reaper = undefined;
  if (leaving === undefined || leaving.exitCode !== null || leaving.signalCode !== null) return;
  leaving.ref();
  const ended = once(leaving, 'exit');
  leaving.stdin?.end();
  await ended;
}
