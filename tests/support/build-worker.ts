/**
 * Builds the worker from its present source, once a run: the tests start it hundreds of times. Unlike the build that is published,
 * this one holds the packages too, which takes a third off the time of a start.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { TestProject } from 'vitest/node';

const repository = fileURLToPath(new URL('../..', import.meta.url));

declare module 'vitest' {
  interface ProvidedContext {
    /** The built command line, a file for node. */
    workerProgram: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  // Several runs at once have a folder each.
  const folder = join(repository, 'node_modules/.cache/fencepost-worker-tests', String(process.pid));
  await build({
    entryPoints: [join(repository, 'worker/src/cli.ts')],
    outdir: folder,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    // What CommonJS packages expect around them.
    banner: {
      js: [
        "import { createRequire as requireFrom } from 'node:module';",
        'const require = requireFrom(import.meta.url), __filename = import.meta.filename, __dirname = import.meta.dirname;',
      ].join('\n'),
    },
    // The one is not installed, the other loads files that lie beside it.
    external: ['pg-native', 'pg-format'],
    sourcemap: 'linked',
    sourcesContent: false,
    logLevel: 'error',
  });
  project.provide('workerProgram', join(folder, 'cli.js'));
  return () => rm(folder, { recursive: true, force: true });
}
