/**
 * The worker's npm package as a stranger has it: built from what the image's build stage copies and from nothing else of
 * the repository, packed, and unpacked into node_modules of an empty folder. Nothing is downloaded: the dependencies are
 * the repository's, linked where npm would put them.
 */
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, rename, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';

const repository = fileURLToPath(new URL('../../..', import.meta.url));
const LEFT_OUT = /^(node_modules|dist|.*\.test\.ts)$/;

/**
 * @param scratch an empty folder
 * @returns the package's folder, which has bin/fencepost.mjs
 */
export async function installPackage(scratch: string): Promise<string> {
  const source = join(scratch, 'source');
  const [stage = ''] = (await readFile(join(repository, 'worker/Dockerfile'), 'utf8'))
    .split(/^FROM /m)
    .slice(1);
  for (const [, line = ''] of stage.matchAll(/^COPY (.+)$/gm)) {
    const paths = line.split(' ');
    const target = join(source, paths.pop() ?? '');
    for (const path of paths) {
      const isFile = paths.length > 1 || /\.json$/.test(path);
      await cp(join(repository, path), isFile ? join(target, basename(path)) : target, {
        recursive: true,
        filter: (from) => !LEFT_OUT.test(basename(from)),
      });
    }
  }
  const modules = join(repository, 'node_modules');
  await symlink(modules, join(source, 'node_modules'));
  await execa('npm', ['pack', '--pack-destination', scratch], { cwd: join(source, 'worker') });

  const installed = join(scratch, 'app/node_modules/fencepost');
  await mkdir(join(scratch, 'app/node_modules'), { recursive: true });
  const { version } = JSON.parse(await readFile(join(source, 'worker/package.json'), 'utf8')) as {
    version: string;
  };
  await execa('tar', ['-xzf', join(scratch, `fencepost-${version}.tgz`), '-C', scratch]);
  await rename(join(scratch, 'package'), installed);
  await symlink(modules, join(installed, 'node_modules'));
  if (existsSync(join(installed, 'src'))) throw new Error('The package holds its source.');
  return installed;
}
