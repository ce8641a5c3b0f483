/**
 * Programs that npm does not carry: found on the PATH, or installed with apt-get where this process is root on Debian or
 * Ubuntu, as in a container. Otherwise the error says what to run.
 */
import { access, constants } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { execa } from 'execa';
import { aptInstall, oneAtATime } from './apt-get.ts';
import { PartError } from './parts/part.ts';

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
    // The package lists of a fresh container are empty; elsewhere fetching them first would only cost time.
    if (!(await aptInstall(aptGet, debianPackage)).failed) return;
    await execa(aptGet, ['update', '-qq'], { reject: false });
    const second = await aptInstall(aptGet, debianPackage);
    if (second.failed) throw missing(names, debianPackage, true, new Error(second.stderr.slice(-2_000)));
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
