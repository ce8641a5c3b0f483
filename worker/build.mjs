/**
 * Builds dist/: the worker's own code, and the pure modules that it shares with the cache client, as one file for each
 * command; npm packages stay outside and are installed as dependencies. The result runs on Node 20.19 and newer.
 */
import { chmod, rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

await rm(here('dist'), { recursive: true, force: true });
await build({
  entryPoints: [here('src/cli.ts')],
  outdir: here('dist'),
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
await chmod(here('dist/cli.js'), 0o755);
