/**
 * `fencepost init` from the npm package: which files it writes, and when it writes none. What comes of those files in a
 * project, with the programs of Supabase, is adoption.test.ts.
 */
import {
  cpSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { removePath, temporaryFolder } from '../../local/parts/reaper.ts';
import { installPackage } from './support/installed-package.ts';

interface Answer {
  readonly folder: string;
  readonly written: number;
  readonly files: readonly { readonly path: string; readonly state: string }[];
  readonly laterMigrations: readonly string[];
  readonly imports: Record<string, string>;
}

const repository = fileURLToPath(new URL('../..', import.meta.url));
const CACHE = 'supabase/functions/_shared/cache.ts';
const KEY_TYPES = 'supabase/functions/_shared/key-types.ts';
const MODULE = 'supabase/functions/_shared/cache/client/cache.ts';
const SCHEMA = 'supabase/migrations/20261101000100_fencepost_schema.sql';

let scratch: string;
let installed: string;
let project: string;
beforeAll(async () => {
  scratch = await temporaryFolder('init');
  installed = await installPackage(scratch);
});
afterAll(async () => {
  await removePath(scratch);
});
beforeEach(() => {
  project = join(scratch, 'project');
  rmSync(project, { recursive: true, force: true });
  write('supabase/config.toml', 'project_id = "mine"\n');
});

function write(path: string, text: string): void {
  mkdirSync(dirname(join(project, path)), { recursive: true });
  writeFileSync(join(project, path), text);
}
const read = (path: string, root = project) => readFileSync(join(root, path), 'utf8');
/** A file of the package: those to start from stand in a folder of their own. */
const ours = (path: string) =>
  path === CACHE || path === KEY_TYPES
    ? read(path.replace('_shared/', '_shared/starter/'), repository).replaceAll("'../", "'./")
    : read(path, repository);

async function init(...parameters: string[]) {
  const { exitCode, stdout, stderr } = await execa(
    process.execPath,
    [join(installed, 'bin/fencepost.mjs'), 'init', ...parameters],
    { cwd: project, reject: false, env: { NO_COLOR: '1' } },
  );
  return { code: exitCode, text: stdout, errors: stderr, json: () => JSON.parse(stdout) as Answer };
}

const filesBelow = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ parentPath, name }) => relative(folder, join(parentPath, name)))
    .sort();

/** Every file with its text and the time of its last change. */
function everything(): Record<string, string> {
  const paths = readdirSync(project, { recursive: true }).map(String).sort();
  return Object.fromEntries(
    paths.map((path) => {
      const { mtimeNs } = statSync(join(project, path), { bigint: true });
      const isFile = statSync(join(project, path)).isFile();
      return [path, `${mtimeNs} ${isFile ? read(path) : ''}`];
    }),
  );
}

describe('what it writes', () => {
  it('every migration of the engine and the queue, and exactly the files that its cache.ts imports', async () => {
    const { code, json } = await init('--json');
    expect(code).toBe(0);
    const paths = json().files.map(({ path }) => path);
    expect(json().written).toBe(paths.length);
    for (const path of paths) expect(read(path), path).toBe(ours(path));

    const migrations = readdirSync(join(repository, 'supabase/migrations'));
    // The workbench's tables and the worked example of a key type: a project brings its own.
    const left = migrations.filter((name) => !paths.includes(`supabase/migrations/${name}`));
    for (const name of left) expect(name).toMatch(/_(workbench_.*|workflows)\.sql$/);
    expect(left.length).toBeLessThan(migrations.length / 2);

    // Deno's own reading of the imports.
    const { stdout } = await execa(
      process.execPath,
      [
        join(repository, 'node_modules/deno/bin.cjs'),
        ...['info', '--json', '--no-config', '--no-lock', '--node-modules-dir=manual', CACHE],
      ],
      {
        cwd: project,
        env: { DENO_DIR: join(repository, 'node_modules/.cache/fencepost-deno'), DENO_NO_UPDATE_CHECK: '1' },
      },
    );
    const { modules } = JSON.parse(stdout) as { modules: { specifier: string }[] };
    const needed = modules.flatMap(({ specifier }) => /\/_shared\/(.*)$/.exec(specifier)?.[1] ?? []);
    expect(filesBelow(join(project, 'supabase/functions/_shared'))).toEqual(needed.sort());

    const functionOfOurs = JSON.parse(read('supabase/functions/health-check/deno.json', repository)) as {
      imports: Record<string, string>;
    };
    const { '@upstash/redis': upstash, 'lru-cache': lru } = functionOfOurs.imports;
    expect(json().imports).toEqual({ '@upstash/redis': upstash, 'lru-cache': lru });
  });

  it('nothing the second time', async () => {
    await init();
    const before = everything();
    const { code, text } = await init();
    expect(code).toBe(0);
    expect(text).toMatch(/^already there {2}supabase\/migrations +\d+ files$/m);
    expect(text).not.toMatch(/^written/m);
    expect((await init('--json')).json()).toMatchObject({ written: 0, laterMigrations: [] });
    expect(everything()).toEqual(before);
  });

  it('says how to push also the second time, since nothing may have been pushed', async () => {
    write('supabase/migrations/20991231000000_notes.sql', 'select 1;');
    await init();
    expect((await init()).text).toContain('npx supabase db push --remote --include-all\n');
  });

  it('nothing in a dry run, which names every file', async () => {
    const before = everything();
    const { code, text } = await init('--dry-run');
    expect(code).toBe(0);
    expect(text).toContain(`to write  ${SCHEMA}`);
    expect(text).toContain(`to write  ${CACHE}`);
    expect(text).toContain('Nothing was written, as asked.');
    expect(everything()).toEqual(before);
  });

  it('into the folder that it is given, in words of what comes next', async () => {
    write('supabase/migrations/20991231000000_notes.sql', 'select 1;');
    const { text } = await init('.', '--into', '_shared/fencepost');
    expect(read('supabase/functions/_shared/fencepost/cache.ts')).toBe(ours(CACHE));
    expect(text).toContain(`Next, in ${project}:`);
    expect(text).toMatch(
      /npx supabase db push --remote --include-all\n +--include-all, because 20991231000000_notes/,
    );
    expect(text).toContain("'../_shared/fencepost/cache.ts'");
    expect(text).toMatch(
      /"imports": \{ "@upstash\/redis": "npm:@upstash\/redis@\d+\.\d+\.\d+", "lru-cache": "npm:lru-cache@\d+\.\d+\.\d+" \}/,
    );
    for (const line of text.split('\n')) expect(line.length).toBeLessThanOrEqual(130);
    expect((await init('--into', '../elsewhere')).code).toBe(64);
  });

  it('nothing where all of it comes from', async () => {
    const { code, json } = await init(repository, '--dry-run', '--json');
    expect(code).toBe(0);
    const differing = json().files.filter(({ state }) => state !== 'same');
    expect(differing).toEqual([CACHE, KEY_TYPES].map((path) => ({ path, state: 'yours' })));
  });
});

async function refuses(parameters: string[], reasons: readonly RegExp[], states: Record<string, string>) {
  const before = everything();
  const { code, text, errors } = await init(...parameters);
  expect(code).toBe(1);
  expect(errors).toMatch(/^fencepost: Nothing was written/);
  for (const reason of reasons) expect(errors).toMatch(reason);
  for (const [path, word] of Object.entries(states))
    expect(text).toMatch(new RegExp(`^${word} +${path}`, 'm'));
  expect(text).not.toMatch(/^written/m);
  const answer = await init(...parameters, '--json');
  expect(answer.code).toBe(1);
  expect(answer.json().written).toBe(0);
  expect(everything()).toEqual(before);
}

describe('what differs', () => {
  it('a migration is never replaced', async () => {
    write(SCHEMA, '-- edited\n');
    await refuses([], [/a database may have it already/], { [SCHEMA]: 'differs' });
    await refuses(['--force'], [/a database may have it already/], { [SCHEMA]: 'differs' });
  });

  it('a version that another migration has is not used twice', async () => {
    write('supabase/migrations/20261101000100_orders.sql', 'select 1;');
    await refuses([], [/rename yours/], { [SCHEMA]: 'version taken' });
    await refuses(['--dry-run', '--force'], [/rename yours/], { [SCHEMA]: 'version taken' });
  });

  it('a file of the cache module is replaced only with --force', async () => {
    await init();
    write(MODULE, '// an older one\n');
    await refuses([], [/--force/, /--into/], { [MODULE]: 'differs' });
    const { code, text } = await init('--force');
    expect(code).toBe(0);
    expect(text).toMatch(new RegExp(`^replaced +${MODULE}$`, 'm'));
    expect(read(MODULE)).toBe(ours(MODULE));
  });

  it.each([CACHE, KEY_TYPES])('%s is the application’s own', async (path) => {
    const own = `${ours(path)}\n// and something of ours\n`;
    write(path, own);
    for (const parameters of [[], ['--force']]) {
      const { code, text } = await init(...parameters);
      expect(code).toBe(0);
      expect(text).toMatch(new RegExp(`^kept +${path} +yours`, 'm'));
      expect(read(path)).toBe(own);
    }
    expect(read(MODULE)).toBe(ours(MODULE));
  });
});

describe('what is something else of the same name', () => {
  it('a key-types.ts that our modules find nothing in', async () => {
    write(KEY_TYPES, 'export const products = ["a"];\n');
    const reasons = [/key-types\.ts does not export types/, /--into _shared\/fencepost/, /never replaced/];
    await refuses([], reasons, { [KEY_TYPES]: 'differs' });
    await refuses(['--force'], reasons, { [KEY_TYPES]: 'differs' });
    expect((await init('--into', '_shared/fencepost')).code).toBe(0);
    expect(read(KEY_TYPES)).toBe('export const products = ["a"];\n');
  });

  it('a cache.ts that is not of ours', async () => {
    write(CACHE, 'export const cache = new Map();\n');
    const reasons = [/cache\.ts does not import from \.\/cache\/client\//, /--into/, /never replaced/];
    await refuses(['--force'], reasons, { [CACHE]: 'differs' });
  });

  it('a link that leads nowhere', async () => {
    mkdirSync(join(project, dirname(CACHE)), { recursive: true });
    symlinkSync('nowhere.ts', join(project, CACHE));
    const { code, text } = await init();
    expect([code, text]).toEqual([1, expect.stringMatching(new RegExp(`^differs +${CACHE}`, 'm'))]);
    expect(lstatSync(join(project, CACHE)).isSymbolicLink()).toBe(true);
    expect(readdirSync(join(project, 'supabase')).sort()).toEqual(['config.toml', 'functions']);
  });
});

describe('no project', () => {
  it.each([
    ['a folder that is not there', 'nowhere', 64, /no folder .*nowhere/],
    ['a file', 'supabase/config.toml', 64, /no folder/],
    ['a folder without supabase/', 'supabase', 78, /no supabase\/config\.toml.*npx supabase init/],
  ] as const)('%s', async (_, folder, expected, reason) => {
    const before = everything();
    const { code, text, errors } = await init(folder, '--json');
    expect(code).toBe(expected);
    expect(errors).toMatch(reason);
    expect(text).toBe('');
    expect(everything()).toEqual(before);
  });

  it('a file where the functions should be: nothing is written, migrations neither', async () => {
    write('supabase/functions', 'not a folder');
    const before = everything();
    const { code, errors } = await init();
    expect(code).toBe(78);
    expect(errors).toMatch(
      /^fencepost: Nothing was changed: supabase\/functions\/_shared\/\S+ cannot be read/,
    );
    expect(everything()).toEqual(before);
  });

  it('a package without its files says so as a defect', async () => {
    const broken = join(scratch, 'app/node_modules/broken');
    cpSync(installed, broken, { recursive: true, verbatimSymlinks: true });
    rmSync(join(broken, 'dist/adoption'), { recursive: true });
    const { exitCode, stderr } = await execa(process.execPath, [join(broken, 'dist/cli.js'), 'init'], {
      cwd: project,
      reject: false,
    });
    expect(exitCode).toBe(70);
    expect(stderr).toMatch(/^fencepost: Unexpected failure/);
  });
});
