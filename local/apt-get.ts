/**
 * Installs Debian packages with apt-get, for those who run as root in a container. No package's service is started, and no two
 * installations of this machine run at once, because the second would fail.
 */
import { mkdir, rmdir, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { execa } from 'execa';
import { guardFile, removeFile } from './parts/reaper.ts';

/** No installation takes longer: the owner of an older lock died. */
const LOCK_MAX_AGE_MS = 180_000;

/** Runs an action while no other process of ours installs anything. Test files run side by side, and all may need a package. */
export async function oneAtATime(action: () => Promise<void>): Promise<void> {
  const lock = join(tmpdir(), 'fencepost-apt-get.lock');
  for (;;) {
    try {
      await mkdir(lock);
      break;
    } catch {
      const age = await stat(lock).then(
        ({ mtimeMs }) => Date.now() - mtimeMs,
        () => 0,
      );
      if (age > LOCK_MAX_AGE_MS) await rmdir(lock).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
  try {
    await action();
  } finally {
    await rmdir(lock).catch(() => undefined);
  }
}

/** Installs one package. Never rejects: the result says whether it `failed`, with apt-get's words in `stderr`. */
export async function aptInstall(aptGet: string, debianPackage: string) {
  return await withoutServices(
    async () =>
      // The timeout waits for an installation that is not ours.
      await execa(
        aptGet,
        ['-o', 'DPkg::Lock::Timeout=120', 'install', '-y', '-qq', '--no-install-recommends', debianPackage],
        { reject: false, stdin: 'ignore', env: { DEBIAN_FRONTEND: 'noninteractive' } },
      ),
  );
}

/**
 * Debian starts a server's service when its package is installed, and this stack runs its own server. A policy file that exists
 * during the installation forbids it.
 */
async function withoutServices<T>(action: () => Promise<T>): Promise<T> {
  const policy = '/usr/sbin/policy-rc.d';
  const mark = '# Fencepost is installing a package and wants no service of it.';
  guardFile(policy, mark);
  await writeFile(policy, `#!/bin/sh\n${mark}\nexit 101\n`, { flag: 'wx', mode: 0o755 }).catch(
    () => undefined,
  );
  try {
    return await action();
  } finally {
    await removeFile(policy, mark);
  }
}
