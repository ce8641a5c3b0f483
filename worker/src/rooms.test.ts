/**
 * The layout as the files have it: TypeScript's parser reads every module of the product, types and dynamic imports included,
 * and each import must lead to a room below. biome.json says the same in the editor, for the usual forms (imports.test.ts).
 *
 * One form of import is accepted, the shortest relative path with its extension. Whatever else could reach a file is refused:
 * computed paths, the package's own name, a detour through a folder above.
 */
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, posix, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Node, SyntaxKind } from 'typescript/unstable/ast';
import * as is from 'typescript/unstable/ast/is';
import { API } from 'typescript/unstable/sync';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const SHARED = 'supabase/functions/_shared/';
/** From top to bottom. A name with a slash at its end is a folder. */
const WORKER_ROOMS = [
  ...['cli.ts', 'commands/', 'adoption/', 'warming/', 'worker/', 'http/', 'diagnostics/', 'metrics/'],
  ...['delivery/', 'queue/', 'wakeup/', 'redis/', 'db/', 'lib/'],
  '../package.json',
].map((room) => posix.join('worker/src', room));
const CACHE_ROOMS = ['cache/client/', 'cache/redis/', 'cache/protocol/'].map((room) => SHARED + room);
const SHARED_ROOMS = [
  ...['function.ts', 'auth/', 'http/', 'cache.ts', 'key-types.ts', 'starter/'].map((room) => SHARED + room),
  ...CACHE_ROOMS,
];
const LEAVES = ['worker/src/adoption/', 'worker/src/warming/'];
const BELOW_LEAVES = ['worker/src/db/', 'worker/src/lib/'];

/** Undefined for a file that stands in no room, and for a test. */
function roomOf(file: string): string | undefined {
  if (file.endsWith('.test.ts')) return undefined;
  const room = [...WORKER_ROOMS, ...SHARED_ROOMS].find((name) =>
    name.endsWith('/') ? file.startsWith(name) : file === name,
  );
  return room ?? /^supabase\/functions\/(?!_shared\/)[^/]+\//.exec(file)?.[0];
}

function mayImport(from: string, to: string): boolean {
  if (from === to) return true;
  if (WORKER_ROOMS.includes(from)) {
    if (!WORKER_ROOMS.includes(to)) return CACHE_ROOMS.slice(1).includes(to);
    if (LEAVES.includes(from)) return BELOW_LEAVES.includes(to);
    if (LEAVES.includes(to) && from !== 'worker/src/commands/') return false;
    return WORKER_ROOMS.indexOf(to) > WORKER_ROOMS.indexOf(from);
  }
  // An edge function is above all of _shared, and _shared/http imports only what is pure.
  if (from === `${SHARED}http/`) return to === `${SHARED}cache/protocol/`;
  if (!SHARED_ROOMS.includes(to)) return false;
  return SHARED_ROOMS.indexOf(to) > SHARED_ROOMS.indexOf(from);
}

/** A package, but not this one. */
const PACKAGE = /^(?:(?:node|npm|jsr):)?(?!fencepost(?:\/|$))@?[a-z][\w./@^~-]*$/;

/** @returns what is wrong with an import of `file`, or null */
function judgeImport(file: string, specifier: string | null): string | null {
  if (specifier === null) return 'a computed path';
  if (!specifier.startsWith('.')) return PACKAGE.test(specifier) ? null : `${specifier}: no package`;
  const target = posix.join(posix.dirname(file), specifier);
  const shortest = posix.relative(posix.dirname(file), target);
  if (
    specifier !== (shortest.startsWith('.') ? shortest : `./${shortest}`) ||
    !/\.(?:ts|json)$/.test(specifier)
  )
    return `${specifier}: not the shortest path with its extension`;
  const [from, to] = [roomOf(file), roomOf(target)];
  if (to === undefined) return `${specifier}: in no room`;
  return from !== undefined && mayImport(from, to) ? null : `${specifier}: upward`;
}

const isText = (node: Node) => is.isStringLiteral(node) || is.isNoSubstitutionTemplateLiteral(node);

/** The specifiers below a node; null for one that is computed. A string that looks like a relative path counts as one. */
function* specifiers(node: Node): Generator<string | null> {
  const children: Node[] = [];
  node.forEachChild((child) => {
    children.push(child);
  });
  if (is.isCallExpression(node)) {
    const callee = node.expression;
    const loads =
      callee.kind === SyntaxKind.ImportKeyword || /^(?:require$|createRequire\()/.test(callee.getText());
    const [path] = node.arguments;
    if (loads) yield path !== undefined && isText(path) ? path.text : null;
  }
  const isFolder = is.isNewExpression(node) && node.expression.getText() === 'URL';
  for (const child of children) {
    if (is.isTemplateHead(child) && /^\.{1,2}\//.test(child.text)) yield null;
    if (isText(child)) {
      const names = is.isImportDeclaration(node) || is.isExportDeclaration(node);
      const isModule = names || is.isExternalModuleReference(node) || is.isImportTypeNode(node.parent);
      const isPath = /^(?:\.{1,2}|fencepost)\//.test(child.text) && !(isFolder && child.text.endsWith('/'));
      if (isModule || isPath) yield child.text;
    }
    yield* specifiers(child);
  }
}

/** @returns the files with what is wrong, one line each */
function check(api: API, project: string, root: string, files: readonly string[]): string[] {
  const { program } = api.updateSnapshot({ openProjects: [project] }).getProject(project) ?? {};
  return files.flatMap((file) => {
    const source = program?.getSourceFile(join(root, file));
    if (source === undefined) return [`${file}: not parsed`];
    const wrong = [...new Set(specifiers(source))].map((specifier) => judgeImport(file, specifier));
    if (roomOf(file) === undefined) wrong.push('stands in no room');
    if (source.referencedFiles.length > 0) wrong.push('references a file');
    return wrong.filter((what) => what !== null).map((what) => `${file}: ${what}`);
  });
}

describe('every import of the product', () => {
  let scratch: string;
  let api: API;
  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'fencepost-rooms-'));
    api = new API({ cwd: repository });
  });
  afterAll(async () => {
    api.close();
    await rm(scratch, { recursive: true });
  });

  /** Parses only: nothing is resolved or checked. */
  async function checkFiles(root: string, files: readonly string[]): Promise<string[]> {
    const project = join(await mkdtemp(join(scratch, 'project-')), 'tsconfig.json');
    const compilerOptions = { noResolve: true, noLib: true, types: [], module: 'NodeNext', allowJs: true };
    await writeFile(
      project,
      JSON.stringify({ compilerOptions, files: files.map((file) => join(root, file)) }),
    );
    return check(api, project, root, files);
  }

  it('leads to a room below, and every file stands in a room', async () => {
    const files: string[] = [];
    for (const folder of ['worker/src', 'supabase/functions']) {
      const entries = await readdir(join(repository, folder), { recursive: true, withFileTypes: true });
      for (const entry of entries) {
        const file = relative(repository, join(entry.parentPath, entry.name)).split(sep).join('/');
        if (entry.isFile() && /\.[cm]?[jt]sx?$/.test(file) && !/\.test\.ts$|\/node_modules\//.test(file))
          files.push(file);
      }
    }
    expect(files.length).toBeGreaterThan(140);
    expect(await checkFiles(repository, files)).toEqual([]);
  });

  it('is refused in every form that would lead upwards', async () => {
    const lib = 'worker/src/lib/';
    const cache = `${SHARED}cache/`;
    const refused: [file: string, text: string][] = [
      ...[
        './../http/server.ts',
        '../http/server.ts',
        '../../src/http/server.ts',
        '../../../worker/src/http/server.ts',
        '../lib/../http/server.ts',
        'fencepost/src/http/server.ts',
        'fencepost',
        '#http',
        '/worker/src/http/server.ts',
        'file:///worker/src/http/server.ts',
        '../x.ts',
        './text.test.ts',
        './text.js',
      ].map((path): [string, string] => [lib, `export * from '${path}'`]),
      [lib, "import { type A } from '../http/server.ts'"],
      [lib, "import a = require('../http/server.ts')"],
      [lib, 'await import(`../http/server.ts`)'],
      [lib, `await import(\`../http/\${name}.ts\`)`],
      [lib, 'await import(name)'],
      [lib, "await import('../http/' + name)"],
      [lib, "type A = typeof import('../http/server.ts')"],
      [lib, "type A = import('../http/server.ts').A"],
      [lib, "createRequire(import.meta.url)('../http/server.ts')"],
      [lib, "const load = createRequire(import.meta.url); load('../http/server.ts')"],
      [lib, 'createRequire(import.meta.url)(name)'],
      [lib, '/// <reference path="../http/server.ts" />'],
      [`${lib}a/b/`, "export * from '../../../http/server.ts'"],
      [`${SHARED}http/`, "export * from '../auth/x.ts'"],
      [`${SHARED}auth/`, "export * from '../../quota-check/index.ts'"],
      ['supabase/functions/quota-check/', "export * from '../usage-summary/index.ts'"],
      [`${cache}protocol/`, "export * from './../client/cache.ts'"],
      [cache, "export * from './protocol/../client/cache.ts'"],
      [`${lib}../`, 'export {}'],
      [SHARED, 'export {}'],
      [cache, 'export {}'],
    ];
    const allowed: [file: string, text: string][] = [
      ['worker/src/http/', "export * from '../lib/text.ts'; import 'node:fs'; import '@hono/node-server'"],
      ['worker/src/db/', "createRequire(import.meta.url)('redis') as typeof import('redis')"],
      ['worker/src/warming/', "export * from './a/b.ts'; await import('../db/pool.ts')"],
      ['supabase/functions/quota-check/', "export * from '../_shared/cache.ts'"],
    ];
    const files: string[] = [];
    for (const [index, [folder, text]] of [...refused, ...allowed].entries()) {
      const file = posix.join(folder, `case-${index}.ts`);
      files.push(file);
      await mkdir(join(scratch, dirname(file)), { recursive: true });
      await writeFile(join(scratch, file), `${text};\n`);
    }
    const wrong = await checkFiles(scratch, files);
    expect(files.filter((file) => !wrong.some((line) => line.startsWith(`${file}: `)))).toEqual(
      files.slice(refused.length),
    );
  });
});
