/**
 * Builds dist/: the worker's own code, and the pure modules that it shares with the cache client, as one file for each
 * command; npm packages stay outside and are installed as dependencies. Beside it, in dist/adoption/, what `fencepost init`
 * puts into a project. The result runs on Node 20.19 and newer.
 */
import { rmSync } from 'node:fs';
import { chmod, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

// Built aside and put in place at the end: somebody may be starting what is there.
const aside = `dist-${process.pid}`;
process.once('exit', () => rmSync(here(aside), { recursive: true, force: true }));
await build({
  entryPoints: [here('src/cli.ts'), here('src/adoption/template.ts')],
  outdir: here(aside),
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20.19',
  packages: 'external',
  sourcemap: true,
  sourcesContent: false,
  logLevel: 'warning',
});
await chmod(here(`${aside}/cli.js`), 0o755);

// Which files those are is decided in one place, which is built by now.
const { readTemplate, MIGRATIONS, MODULES } = await import(`./${aside}/adoption/template.js`);
const { migrations, modules } = await readTemplate(here('../supabase/'));
for (const [folder, files] of [
  [MIGRATIONS, migrations],
  [MODULES, modules],
]) {
  for (const { source, text } of files) {
    const path = here(`${aside}/adoption/${folder}/${source}`);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, text);
  }
}

await rm(here('dist'), { recursive: true, force: true });
await rename(here(aside), here('dist'));
