#!/usr/bin/env node
/**
 * The `fencepost` command. It stands outside dist/ because npm links a command when it installs, and on a fresh clone
 * dist/ is not built yet. Beside its sources, and only there, it is built now if it is missing or older than they are.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const built = here('../dist/cli.js');
const builder = here('../build.mjs');
const SOURCES = ['../src', '../../supabase/functions/_shared', '../../supabase/migrations'];

const changedAt = (path) => statSync(path).mtimeMs;

function isStale() {
  if (!existsSync(built)) return true;
  const since = changedAt(built);
  return SOURCES.map(here).some((folder) =>
    [folder, ...readdirSync(folder, { recursive: true }).map((name) => `${folder}/${name}`)].some(
      (path) => changedAt(path) > since,
    ),
  );
}

if (existsSync(builder) && isStale()) await import('../build.mjs');
await import('../dist/cli.js');
