/**
 * The layout as biome.json states it: one override a room, from top to bottom. Biome lints made-up files, one for each import
 * that a room may or may not have, so a group that forgets a room fails here.
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const WORKER = 'worker/src/';
const SHARED = 'supabase/functions/_shared/';
/** Rooms that import only db and lib. */
const LEAVES = ['adoption', 'warming'];

interface Override {
  readonly includes: readonly string[];
  readonly linter?: { readonly rules: { readonly style: { readonly noRestrictedImports?: unknown } } };
}

const { overrides } = JSON.parse(await readFile(join(repository, 'biome.json'), 'utf8')) as {
  overrides: readonly Override[];
};
const ruled = overrides
  .filter(({ linter }) => linter?.rules.style.noRestrictedImports !== undefined)
  .flatMap(({ includes }) => includes);
/** The rooms of worker/src, from top to bottom. */
const rooms = ruled.filter((path) => path.startsWith(WORKER)).map((path) => path.slice(WORKER.length));
const folders = rooms.filter((room) => room.endsWith('/**')).map((room) => room.slice(0, -3));

/** Each file's one import, and whether it is refused. */
const cases: { file: string; to: string; refused: boolean }[] = [];
const add = (from: string, to: string, refused: boolean) =>
  cases.push({ file: from.endsWith('.ts') ? from : `${from}case-${cases.length}.ts`, to, refused });

for (const [index, room] of folders.entries()) {
  for (const depth of ['', 'deeper/']) {
    const from = `${WORKER}${room}/${depth}`;
    add(from, `${WORKER}cli.ts`, true);
    for (const other of folders) {
      if (other === room) continue;
      const below = LEAVES.includes(room)
        ? ['db', 'lib'].includes(other)
        : folders.indexOf(other) > index && (room === 'commands' || !LEAVES.includes(other));
      add(from, `${WORKER}${other}/x.ts`, !below);
    }
    for (const path of ['cache.ts', 'key-types.ts', 'cache/client/x.ts', 'http/x.ts', 'auth/x.ts'])
      add(from, SHARED + path, true);
    for (const path of ['cache/redis/x.ts', 'cache/protocol/x.ts']) add(from, SHARED + path, false);
  }
}
/** What each room of _shared may import of the others. */
const ALLOWED: Readonly<Record<string, readonly string[]>> = {
  'starter/': ['cache/client/', 'cache/redis/', 'cache/protocol/'],
  'cache/client/': ['cache/redis/', 'cache/protocol/'],
  'cache/redis/': ['cache/protocol/'],
  'cache/protocol/': [],
  'auth/': ['http/', 'cache/client/', 'cache/redis/', 'cache/protocol/', 'cache.ts', 'key-types.ts'],
  'http/': ['cache/protocol/'],
};
for (const [room, allowed] of Object.entries(ALLOWED)) {
  for (const other of [...Object.keys(ALLOWED), 'cache.ts', 'key-types.ts', 'function.ts']) {
    if (other === room) continue;
    const to = other.endsWith('/') ? `${other}x.ts` : other;
    add(SHARED + room, SHARED + to, !allowed.includes(other));
  }
}
add(`${SHARED}cache.ts`, `${SHARED}http/x.ts`, true);
add(`${SHARED}key-types.ts`, `${SHARED}auth/x.ts`, true);
add(`${SHARED}function.ts`, `${SHARED}auth/x.ts`, false);

/** Lints all cases in one run, in a folder whose paths are the repository's. @returns the refused files */
async function lint(scratch: string): Promise<Set<string>> {
  await writeFile(join(scratch, 'biome.json'), await readFile(join(repository, 'biome.json')));
  for (const { file, to } of cases) {
    await mkdir(join(scratch, dirname(file)), { recursive: true });
    const path = posix.relative(dirname(file), to);
    await writeFile(join(scratch, file), `export * from '${path.startsWith('.') ? path : `./${path}`}';\n`);
  }
  const { stdout } = await execa(
    join(repository, 'node_modules/.bin/biome'),
    [
      'lint',
      '--vcs-enabled=false',
      '--reporter=json',
      '--max-diagnostics=none',
      '--only=style/noRestrictedImports',
      '.',
    ],
    { cwd: scratch, reject: false },
  );
  const { diagnostics } = JSON.parse(stdout) as {
    diagnostics: { category: string; location: { path: string | { file: string } } }[];
  };
  return new Set(
    diagnostics
      .filter(({ category }) => category === 'lint/style/noRestrictedImports')
      .map(({ location: { path } }) => (typeof path === 'string' ? path : path.file)),
  );
}

describe('the rule against upward imports', () => {
  let scratch: string;
  let refused: Set<string>;
  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'fencepost-imports-'));
    refused = await lint(scratch);
  });
  afterAll(async () => {
    await rm(scratch, { recursive: true });
  });

  it('knows every room', async () => {
    const entries = await readdir(join(repository, WORKER), { withFileTypes: true });
    const existing = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
    expect([...folders].sort()).toEqual(existing.sort());
    const shared = await readdir(join(repository, SHARED), { recursive: true, withFileTypes: true });
    const known = Object.keys(ALLOWED).map((room) => room.slice(0, -1));
    for (const entry of shared.filter((found) => found.isDirectory())) {
      const room = posix.relative(join(repository, SHARED), join(entry.parentPath, entry.name));
      if (room !== 'cache') expect(known).toContain(room);
    }
  });

  it('refuses every import of a room above, and no other', () => {
    const wrong = cases.filter((one) => refused.has(one.file) !== one.refused);
    expect(wrong).toEqual([]);
    expect(refused.size).toBeGreaterThan(200);
  });
});
