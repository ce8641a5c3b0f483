/**
 * Where the cache module runs and compiles: bundled for any platform without an import of Node's, under Bun and Deno as it is, and
 * typed for the tsconfig of a Next.js application and for the one that `tsc --init` writes.
 */
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createContext, runInContext } from 'node:vm';
import { type BuildOptions, build } from 'esbuild';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PACKAGES } from '../../worker/src/adoption/template.ts';
import { TOKEN, useUpstash } from '../support/upstash.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const module = join(root, 'supabase/functions/_shared/cache.ts');
const require = createRequire(import.meta.url);

const upstash = useUpstash();
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fencepost-platforms-'));
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** Reads one key three times: loaded, from Redis, and from the process itself. @returns what these reads gave, and what the last cost */
const program = (key: string) => `
  const cache = createCache({ url: '${upstash.gateway.url}', token: '${TOKEN}', timeout: 10000, log: () => {},
    local: { ttl: 60000, max: 9 } });
  const read = (value) => cache.getOrSet('${key}', () => value);
  const answers = [await read(1), await read(2)];
  const { commands } = cache.stats();
  answers.push(await read(3), cache.stats().commands - commands, (await cache.ping()).connected);`;
const expected = [1, 1, 1, 0, true];

/** What every platform of the web has; no `process`, no `Deno`, no `require`. */
function webGlobals(): Record<string, unknown> {
  const { AbortController, AbortSignal, DOMException, Headers, Request, Response, TextEncoder, TextDecoder } =
    globalThis;
  const { Event, EventTarget, MessageEvent } = globalThis;
  const { URL, btoa, atob, clearTimeout, crypto, fetch, performance, setTimeout, structuredClone } =
    globalThis;
  return {
    ...{ AbortController, AbortSignal, DOMException, Headers, Request, Response, TextEncoder, TextDecoder },
    ...{ URL, btoa, atob, clearTimeout, crypto, fetch, performance, setTimeout, structuredClone, console },
    ...{ Event, EventTarget, MessageEvent },
  };
}

describe('a bundle', () => {
  it.each<[string, BuildOptions]>([
    ['neutral', { platform: 'neutral' }],
    ['browser', { platform: 'browser' }],
    ['edge', { platform: 'browser', conditions: ['edge-light', 'workerd', 'worker'] }],
  ])('for %s needs nothing of Node, and works with what the web has', async (name, options) => {
    const { outputFiles, metafile } = await build({
      ...options,
      entryPoints: [module],
      bundle: true,
      format: 'iife',
      globalName: 'cacheModule',
      target: 'es2022',
      metafile: true,
      write: false,
      logLevel: 'silent',
    });
    const imports = Object.values(metafile.inputs).flatMap((input) => input.imports);
    expect(imports.filter(({ external }) => external === true)).toEqual([]);
    const text = `${outputFiles[0]?.text}
      (async () => { const { createCache } = cacheModule; ${program(`bundle:${name}`)} return answers; })()`;
    const answers = (await runInContext(text, createContext(webGlobals()))) as unknown[];
    expect([...answers]).toEqual(expected);
  });
});

it('imports the packages that init names, no other, and each as every bundler must find it', async () => {
  const { metafile } = await build({
    entryPoints: [module],
    bundle: true,
    format: 'esm',
    packages: 'external',
    metafile: true,
    write: false,
  });
  const imports = Object.values(metafile.inputs).flatMap((input) => input.imports);
  const packages = imports.flatMap(({ external, path, kind }) => (external ? [`${kind} ${path}`] : []));
  expect([...new Set(packages)].sort()).toEqual(PACKAGES.map((name) => `import-statement ${name}`));
});

describe('as it is', () => {
  const script = async (name: string): Promise<string> => {
    const path = join(folder, `${name}.mjs`);
    const source = `import { createCache } from '${module}';${program(`runtime:${name}`)}
      console.log(JSON.stringify(answers));`;
    await writeFile(path, source);
    return path;
  };

  it('runs under Bun', async () => {
    const bun = require.resolve(
      `@oven/bun-${process.platform}-${process.arch === 'arm64' ? 'aarch64' : 'x64'}/bin/bun`,
    );
    const { stdout } = await execa(bun, ['run', await script('bun')], { cwd: root });
    expect(JSON.parse(stdout)).toEqual(expected);
  });

  it('runs under Deno', async () => {
    const deno = join(dirname(require.resolve('deno/package.json')), 'deno');
    const flags =
      '--no-check --no-remote --node-modules-dir=manual --no-lock --no-config --allow-net --allow-env --allow-read';
    const { stdout } = await execa(deno, ['run', ...flags.split(' '), await script('deno')], { cwd: root });
    expect(JSON.parse(stdout)).toEqual(expected);
  });
});

describe('types', () => {
  const tsc = (...options: string[]) =>
    execa(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), ...options], {
      cwd: folder,
      reject: false,
    });
  /** What `tsc --init` writes, but for what is commented out there. */
  const init = {
    module: 'nodenext',
    target: 'esnext',
    types: [],
    declaration: true,
    noUncheckedIndexedAccess: true,
    exactOptionalPropertyTypes: true,
    strict: true,
    jsx: 'react-jsx',
    verbatimModuleSyntax: true,
    isolatedModules: true,
    noUncheckedSideEffectImports: true,
    moduleDetection: 'force',
    skipLibCheck: true,
  };
  /** What create-next-app writes. */
  const next = {
    target: 'ES2017',
    lib: ['dom', 'dom.iterable', 'esnext'],
    allowJs: true,
    skipLibCheck: true,
    strict: true,
    noEmit: true,
    esModuleInterop: true,
    module: 'esnext',
    moduleResolution: 'bundler',
    resolveJsonModule: true,
    isolatedModules: true,
    jsx: 'preserve',
    incremental: true,
  };
  const reader = (
    from: string,
  ) => `import { type CacheOptions, CacheError, createCache, getOrSet, keys, TTL } from '${from}';
export const options: CacheOptions = { timeout: 100, onError: (error) => { if (error instanceof CacheError) throw error; } };
export const cache = createCache(options);
export const used: Promise<number> = getOrSet(keys.quota('org', 'openai', 'gpt-5'), async () => 1, TTL.QUOTA);
`;

  it('need no types of Node, and hold as declarations under both', async () => {
    await mkdir(join(folder, 'app'), { recursive: true });
    await writeFile(join(folder, 'package.json'), '{ "type": "module" }');
    const emit = {
      ...init,
      declaration: true,
      rewriteRelativeImportExtensions: true,
      rootDir: dirname(module),
      outDir: join(folder, 'app/cache'),
    };
    await writeFile(join(folder, 'emit.json'), JSON.stringify({ compilerOptions: emit, files: [module] }));
    expect(await tsc('-p', 'emit.json')).toMatchObject({ stdout: '', exitCode: 0 });
    await writeFile(join(folder, 'app/reader.ts'), reader('./cache/cache.js'));
    for (const [name, compilerOptions] of Object.entries({ init, next })) {
      const config = { compilerOptions: { ...compilerOptions, noEmit: true }, files: ['app/reader.ts'] };
      await writeFile(join(folder, `${name}.json`), JSON.stringify(config));
      expect(await tsc('-p', `${name}.json`)).toMatchObject({ stdout: '', exitCode: 0 });
    }
  });

  it.each(Object.entries({ init, next }))(
    'hold as sources under the %s config that allows imports of .ts',
    async (name, base) => {
      const compilerOptions = { ...base, noEmit: true, allowImportingTsExtensions: true };
      const path = join(folder, `${name}-reader.ts`);
      await writeFile(path, reader(module));
      await writeFile(
        join(folder, `${name}-source.json`),
        JSON.stringify({ compilerOptions, files: [path] }),
      );
      expect(await tsc('-p', `${name}-source.json`)).toMatchObject({ stdout: '', exitCode: 0 });
    },
  );
});
