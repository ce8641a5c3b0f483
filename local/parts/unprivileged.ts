/**
 * Postgres refuses to run as root. When this process is root, as in a container, Postgres runs as the system user `postgres`,
 * or `nobody` where there is none. An ordinary user runs everything as itself.
 */
import { chown, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import { PartError } from './part.ts';
import { temporaryFolder } from './reaper.ts';

export interface SystemUser {
  readonly uid: number;
  readonly gid: number;
}

/**
 * The user to run Postgres as; undefined means the present one.
 * @throws PartError PROGRAM_MISSING when this process is root and there is no user to step down to
 */
export async function unprivilegedUser(): Promise<SystemUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = await Promise.all([
      execa('id', ['-u', name], { reject: false }),
      execa('id', ['-g', name], { reject: false }),
    ]);
    if (!uid.failed && !gid.failed) return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  }
  throw new PartError(
    'PROGRAM_MISSING',
    'Postgres cannot run as root, and this system has neither a user `postgres` nor `nobody` to run it as. ' +
      'Create one (`useradd --system postgres`) or start Fencepost as an ordinary user.',
  );
}

/** A private temporary folder that belongs to the user, in a place the user can reach. */
export async function folderFor(user: SystemUser | undefined, purpose: string): Promise<string> {
  if (user === undefined) return await temporaryFolder(purpose);
  const parent = (await reachable(tmpdir(), user)) ? tmpdir() : '/tmp';
  const folder = await temporaryFolder(purpose, parent);
  await chown(folder, user.uid, user.gid);
  return folder;
}

/**
 * Programs under a path that the user cannot enter (a clone in the home of root, an install under umask 077) are copied to a
 * folder where it can; the path of the copy is returned, or the original when that is good enough.
 */
export async function programsFor(
  user: SystemUser | undefined,
  folder: string,
  program: string,
  scratch: () => Promise<string>,
): Promise<string> {
  if (user === undefined || (await reachable(join(folder, program), user))) return folder;
  const copy = join(await scratch(), 'programs');
  await execa('cp', ['-R', folder, copy]);
  await execa('chown', ['-R', `${user.uid}:${user.gid}`, copy]);
  return copy;
}

/** Whether the user may enter every folder on the way and read and execute the end of it. */
async function reachable(path: string, user: SystemUser): Promise<boolean> {
  for (let at = path; ; at = dirname(at)) {
    const { mode, uid, gid } = await stat(at);
    const shift = uid === user.uid ? 6 : gid === user.gid ? 3 : 0;
    if (((mode >> shift) & 0o1) === 0) return false;
    if (at === dirname(at)) return true;
  }
}
