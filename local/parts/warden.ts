/**
 * The parent's end of the warden (see warden-process.mjs): one per Node process, started with the first child. It is
 * what lets this process die at any moment, `kill -9` included, without leaving a process or a folder behind.
 *
 * Normal stops do not need it: each part cleans up after itself and tells the warden to forget it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Environment of every child: how the warden recognises what belongs to this process. */
export const ownerMark = { FENCEPOST_OWNER: `${process.pid}-${randomBytes(8).toString('hex')}` } as const;

let warden: ChildProcess | undefined;

function tell(message: Record<string, string | number>): void {
  if (warden === undefined) {
    warden = spawn(process.execPath, [fileURLToPath(new URL('warden-process.mjs', import.meta.url))], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      env: {},
    });
    warden.unref();
    // The warden must not keep this process alive, and its death (somebody killed it) must not end it.
    const pipe = warden.stdin;
    if (pipe !== null) {
      pipe.on('error', () => undefined);
      if ('unref' in pipe && typeof pipe.unref === 'function') pipe.unref();
    }
    tell({ mark: ownerMark.FENCEPOST_OWNER });
  }
  warden.stdin?.write(`${JSON.stringify(message)}\n`);
}

/**
 * From now on the child is stopped when this process dies.
 * @param signal what asks it for an orderly end; SIGKILL follows after two seconds.
 */
export function guardChild(pid: number, signal: NodeJS.Signals): void {
  tell({ child: pid, signal });
}

/** The child has ended; its process id may soon belong to somebody else. */
export function forgetChild(pid: number): void {
  tell({ gone: pid });
}

/** From now on the file or folder is removed when this process dies. */
export function guardPath(path: string): void {
  tell({ path });
}

/** Removes a guarded file or folder now. */
export async function removePath(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
  tell({ pathGone: path });
}

/** Like removePath, for the last moments of a process. */
export function removePathNow(path: string): void {
  rmSync(path, { recursive: true, force: true });
  tell({ pathGone: path });
}

/**
 * A new, empty, private folder that goes away with this process at the latest.
 * @param purpose a word for its name, e.g. `postgres`
 * @param parent where to put it; by default the system's temporary folder
 */
export async function temporaryFolder(purpose: string, parent = tmpdir()): Promise<string> {
  const folder = await mkdtemp(join(parent, `fencepost-${purpose}-`));
  guardPath(folder);
  return folder;
}

/** Lets the warden clean up what is left, and waits until it has ended. The next guarded child starts a new one. */
export async function dismissWarden(): Promise<void> {
  const leaving = warden;
  warden = undefined;
  if (leaving === undefined || leaving.exitCode !== null || leaving.signalCode !== null) return;
  leaving.ref();
  const ended = once(leaving, 'exit');
  leaving.stdin?.end();
  await ended;
}
