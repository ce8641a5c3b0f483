/**
 * Programs that npm does not carry: found on the PATH, or installed with apt-get where this process is root on Debian or
 * Ubuntu, as in a container. Otherwise the error says what to run.
 */
import { access, constants, mkdir, rmdir, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { execa } from 'execa';
import { PartError } from './parts/part.ts';
import { guardFile, removeFile } from './parts/reaper.ts';

/**
 * The full path of a command.
 * @param command one name, or several that will do equally well, best first
 * @param debianPackage the package that provides the first of them
 * @throws PartError PROGRAM_MISSING with the command that installs it
 */
export async function ensureCommand(
  command: string | readonly string[],
  debianPackage: string,
  report: (line: string) => void = () => undefined,
): Promise<string> {
  const names = typeof command === 'string' ? [command] : command;
  const found = await findCommand(names);
  if (found !== undefined) return found;

  const aptGet = await findCommand(['apt-get']);
  if (aptGet === undefined || process.getuid?.() !== 0)
    throw missing(names, debianPackage, aptGet !== undefined);
  report(`Installing ${debianPackage} with apt-get …`);
  await oneAtATime(async () => {
    if ((await findCommand(names)) !== undefined) return;
    await withoutServices(async () => {
      // The package lists of a fresh container are empty; elsewhere fetching them first would only cost time.
      if (!(await aptInstall(aptGet, debianPackage)).failed) return;
      await execa(aptGet, ['update', '-qq'], { reject: false });
      const second = await aptInstall(aptGet, debianPackage);
      if (second.failed) throw missing(names, debianPackage, true, new Error(second.stderr.slice(-2_000)));
    });
  });
  const installed = await findCommand(names);
  if (installed === undefined) throw missing(names, debianPackage, true);
  return installed;
}

/** The full path of the first of these commands that the PATH holds. */
export async function findCommand(names: readonly string[]): Promise<string | undefined> {
  // Debian keeps some programs (pgbench, older servers) where an ordinary user's PATH does not look.
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/bin', '/usr/bin', '/usr/sbin'];
  for (const name of names) {
    for (const folder of folders) {
      if (folder === '') continue;
      const path = join(folder, name);
      if (
        await access(path, constants.X_OK).then(
          () => true,
          () => false,
        )
      )
        return path;
    }
  }
  return undefined;
}

/** Waits for another installation to end instead of failing beside it. */
function aptInstall(aptGet: string, debianPackage: string) {
  return execa(
    aptGet,
    ['-o', 'DPkg::Lock::Timeout=120', 'install', '-y', '-qq', '--no-install-recommends', debianPackage],
    { reject: false, stdin: 'ignore', env: { DEBIAN_FRONTEND: 'noninteractive' } },
  );
}

/**
 * Debian starts a server's service when its package is installed, and this stack runs its own server. A policy file that exists
 * during the installation forbids it.
 */
async function withoutServices(action: () => Promise<void>): Promise<void> {
  const policy = '/usr/sbin/policy-rc.d';
  const mark = '# Fencepost is installing a package and wants no service of it.';
  guardFile(policy, mark);
  await writeFile(policy, `#!/bin/sh\n${mark}\nexit 101\n`, { flag: 'wx', mode: 0o755 }).catch(
    () => undefined,
  );
  try {
    await action();
  } finally {
    await removeFile(policy, mark);
  }
}

function missing(
  names: readonly string[],
  debianPackage: string,
  isDebian: boolean,
  cause?: Error,
): PartError {
  const sudo = process.getuid?.() === 0 ? '' : 'sudo ';
  const remedy = isDebian
    ? `${sudo}apt-get update && ${sudo}apt-get install -y ${debianPackage}`
    : process.platform === 'darwin'
      ? `brew install ${brewNames[debianPackage] ?? debianPackage}`
      : `your system's package manager (Debian calls the package ${debianPackage})`;
  return new PartError(
    'PROGRAM_MISSING',
    `${names.join(' or ')} is not installed. Install it with: ${remedy}`,
    {
      ...(cause === undefined ? {} : { cause }),
    },
  );
}

const brewNames: Readonly<Record<string, string>> = { 'redis-server': 'redis', 'postgresql-client': 'libpq' };

/** apt-get fails when two run at once, and test files run side by side: the second waits for the first. */
async function oneAtATime(action: () => Promise<void>): Promise<void> {
  const lock = join(tmpdir(), 'fencepost-apt-get.lock');
  for (;;) {
    try {
      await mkdir(lock);
      break;
    } catch {
      // No installation takes this long: the owner of the lock died.
      const age = await stat(lock).then(
        ({ mtimeMs }) => Date.now() - mtimeMs,
        () => 0,
      );
      if (age > 180_000) await rmdir(lock).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
  try {
    await action();
  } finally {
    await rmdir(lock).catch(() => undefined);
  }
}
