/**
 * Checks the edge functions under Deno, offline: their types, and that every deno.json pins the versions that this repository
 * installs and tests with.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const folder = join(root, 'supabase/functions');
const readJson = (path) => JSON.parse(readFileSync(path, 'utf8'));
const names = readdirSync(folder).filter((name) => existsSync(join(folder, name, 'index.ts')));
const problems = [];

for (const name of names) {
  const file = join(folder, name, 'deno.json');
  if (!existsSync(file)) {
    problems.push(`${name} has no deno.json: Supabase deploys each function with its own.`);
    continue;
  }
  for (const [specifier, target] of Object.entries(readJson(file).imports ?? {})) {
    const pin = /^npm:(@?[^@]+)@([^/]+)$/.exec(target);
    if (pin === null) {
      problems.push(`${name}/deno.json: ${specifier} must be npm:<package>@<exact version>, not ${target}.`);
      continue;
    }
    const installed = join(root, 'node_modules', pin[1], 'package.json');
    const version = existsSync(installed) ? readJson(installed).version : 'nothing';
    if (version !== pin[2]) {
      problems.push(`${name}/deno.json pins ${pin[1]} ${pin[2]}, but ${version} is installed here.`);
    }
  }
}

const entrypoints = names.map((name) => `supabase/functions/${name}/index.ts`);
const flags = ['--quiet', '--no-config', '--no-lock', '--cached-only', '--node-modules-dir=manual'];
const deno = spawnSync(
  process.execPath,
  [
    join(root, 'node_modules/deno/bin.cjs'),
    'check',
    ...flags,
    ...entrypoints,
    'local/parts/function-host.deno.ts',
  ],
  {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: {
      ...process.env,
      DENO_DIR: join(root, 'node_modules/.cache/fencepost-deno'),
      DENO_NO_UPDATE_CHECK: '1',
    },
  },
);
if (deno.status !== 0) problems.push('Deno finds errors in the edge functions (above).');
for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
