/** package-lock.json installs everywhere: on Linux, macOS and Windows, x64 and arm64, from any registry. */
import { copyFile, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { expect, test } from 'vitest';

const repository = fileURLToPath(new URL('../..', import.meta.url));

interface LockedPackage {
  readonly version?: string;
  readonly resolved?: string;
  readonly link?: boolean;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const lock = JSON.parse(await readFile(join(repository, 'package-lock.json'), 'utf8')) as {
  readonly packages: Readonly<Record<string, LockedPackage>>;
};

// npm leaves out the variants of other systems when it writes a lock file beside an installed node_modules.
test('the lock file lists every variant that a package names for some system', () => {
  const missing = Object.entries(lock.packages).flatMap(([path, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).filter(
      (name) =>
        lock.packages[`${path}/node_modules/${name}`] === undefined &&
        lock.packages[`node_modules/${name}`] === undefined,
    ),
  );
  expect(missing).toEqual([]);
});

test('the lock file names no registry', () => {
  const resolved = Object.values(lock.packages).filter(({ resolved }) => resolved !== undefined);
  expect(resolved).toEqual([{ resolved: 'worker', link: true }]);
});

test.each([
  ['linux', 'arm64'],
  ['darwin', 'x64'],
  ['darwin', 'arm64'],
  ['win32', 'x64'],
  ['win32', 'arm64'],
])('npm ci accepts the lock file on %s %s', async (os, cpu) => {
  const folder = await mkdtemp(join(tmpdir(), 'lock-file-test-'));
  try {
    await mkdir(join(folder, 'worker'));
    for (const file of ['package.json', 'package-lock.json', 'worker/package.json'])
      await copyFile(join(repository, file), join(folder, file));
    const { stdout } = await execa(
      'npm',
      ['ci', '--dry-run', '--offline', '--no-audit', `--os=${os}`, `--cpu=${cpu}`],
      { cwd: folder },
    );
    expect(stdout).toContain(`@esbuild/${os}-${cpu}`);
    expect(stdout).not.toContain('@esbuild/linux-x64');
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
