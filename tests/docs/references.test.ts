/**
 * What the documentation names exists: linked pages and their headings, files, commands. So does each heading of docs/ that a
 * comment in the code points to.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => readFileSync(join(repository, path), 'utf8');
const exists = (path: string) => existsSync(join(repository, path));

/** Files of the repository, without what is installed or built. */
const files = ['bench', 'docs', 'local', 'supabase', 'tests', 'worker']
  .flatMap((folder) =>
    readdirSync(join(repository, folder), { recursive: true, encoding: 'utf8' }).map(
      (path) => `${folder}/${path}`,
    ),
  )
  .filter((path) => !/(^|\/)(node_modules|dist)\//.test(path));
const endsAFile = (ending: string) => files.some((path) => `/${path}`.endsWith(ending));

const pages = ['README.md', 'CONTRIBUTING.md', 'RELEASE_NOTES.md']
  .concat(files.filter((path) => /^docs\/[^/]+\.md$/.test(path)))
  .filter(exists);

const scripts = ['package.json', 'worker/package.json'].flatMap((path) =>
  Object.keys((JSON.parse(read(path)) as { scripts: object }).scripts),
);

const all = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(([, found = '']) => found);

/** The anchors that GitHub gives to a page's headings. */
function anchorsOf(page: string): string[] {
  const prose = read(page).replace(/^```.*?^```/gms, '');
  return all(prose, /^#+ (.+)$/gm).map((heading) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** Whether a page exists, and the heading that an anchor names. */
function leadsSomewhere(path: string, anchor: string | undefined): boolean {
  return exists(path) && (anchor === undefined || anchorsOf(path).includes(anchor));
}

/** Each text in backticks, and each fenced or indented block. */
function codeOf(page: string): string[] {
  const text = read(page);
  const blocks = [...all(text, /^```.*?\n(.*?)^```/gms), ...all(text, /^ {4}(.*)$/gm)];
  return [...blocks, ...all(text, /`([^`\n]+)`/g)];
}

/** What a command line of the page asks for and the repository does not have. */
function missingCommands(code: string): string[] {
  const isTest = (filter: string) => files.some((path) => path.endsWith('.test.ts') && path.includes(filter));
  return [
    ...all(code, /npx tsx ([\w./-]+)/g).filter((file) => !exists(file)),
    ...all(code, /vitest run ([\w./-]+)/g).filter((filter) => !isTest(filter)),
    ...all(code, /npm run ([\w:-]+)/g).filter((script) => !scripts.includes(script)),
    ...all(code, /\bfencepost ([a-z][\w-]*)/g).filter((name) => !exists(`worker/src/commands/${name}.ts`)),
  ];
}

const isPlaceholder = (path: string) => /\/(?:NAME|YYYY)/.test(path);

/** Files that the page names from the repository's root, or by their name alone; NAME and YYYY are placeholders. */
function missingFiles(code: string): string[] {
  if (/vitest run/.test(code)) return [];
  const path = /(?<![\w./<>$…~-])((?:bench|docs|local|supabase|tests|worker)\/[\w./-]*\w)(?![\w*…<{-])/g;
  return [
    ...all(code, path).filter((found) => !exists(found) && !isPlaceholder(found)),
    ...all(code, /^([\w][\w./-]*\.(?:ts|sql|mjs))$/g).filter(
      (name) => !endsAFile(`/${name}`) && !isPlaceholder(name),
    ),
    ...all(code, /…(_\w+\.sql)/g).filter((ending) => !endsAFile(ending)),
  ];
}

describe.each(pages)('%s', (page) => {
  it('links to pages and headings that exist', () => {
    const links = all(read(page), /\]\(([^)\s]+)\)/g).filter((link) => !/^[a-z]+:/.test(link));
    const broken = links.filter((link) => {
      const [path = '', anchor] = link.split('#');
      return !leadsSomewhere(path === '' ? page : normalize(join(dirname(page), path)), anchor);
    });
    expect(broken).toEqual([]);
  });

  it('names files that exist', () => {
    expect(codeOf(page).flatMap(missingFiles)).toEqual([]);
  });

  it('names commands that exist', () => {
    expect(codeOf(page).flatMap(missingCommands)).toEqual([]);
  });
});

/** What the last column of a table names as its tests: a file of vitest or, without its ending, of pgTAP; then perhaps ` > words of a title`. */
const testsOf = (page: string) =>
  all(read(page), /^\|.*\| (?:test|tried in) \|\n\|[-|]+\|\n((?:\|.*\n)+)/gm)
    .flatMap((rows) => all(rows, /\|([^|]*)\|$/gm))
    .flatMap((cell) => all(cell, /`([\w./-]*(?:\.test\.ts|fencepost_\w+)(?: > [^`]+)?)`/g));

it('the tables of tests name files and titles that exist', () => {
  const named = pages.flatMap(testsOf);
  expect(named.length).toBeGreaterThan(100);
  const missing = named.filter((name) => {
    const [file = '', title] = name.split(' > ');
    const path = files.find((known) =>
      `/${known}`.endsWith(`/${file.replace(/^(fencepost_\w+)$/, '$1.test.sql')}`),
    );
    return path === undefined || (title !== undefined && !read(path).replaceAll("''", "'").includes(title));
  });
  expect(missing).toEqual([]);
});

describe('comments in the code', () => {
  const sources = files.filter((path) => /\.(ts|mjs|sql)$/.test(path));

  it('point to pages and headings that exist', () => {
    const broken = sources
      .flatMap((path) => all(read(path), /\b(docs\/[\w-]+\.md(?:#[\w-]+)?)/g).map((to) => ({ path, to })))
      .filter(({ to }) => {
        const [page = '', anchor] = to.split('#');
        return !leadsSomewhere(page, anchor);
      });
    expect(broken).toEqual([]);
  });

  it('name files that exist', () => {
    const named = /(?<![\w/*…<$.-])(?:\.\.?\/)*((?:[\w.-]+\/)*[\w-]+(?:\.test)?\.(?:ts|sql|mjs))\b/g;
    const missing = sources.flatMap((path) => {
      const comments = all(read(path), path.endsWith('.sql') ? /--(.*)$/gm : /(?:^\s*\*|\/\/|\/\*\*)(.*)$/gm);
      return comments
        .flatMap((comment) => [...all(comment, named), ...all(comment, /…(_\w+\.sql)/g)])
        .filter((name) => !exists(name) && !endsAFile(name.startsWith('_') ? name : `/${name}`))
        .map((name) => ({ path, name }));
    });
    expect(missing).toEqual([]);
  });
});

it('docs/operations.md names each code that a running worker may log', () => {
  // Splitting a request is no failure that a log shows.
  const codes = all(
    read('worker/src/lib/errors.ts'),
    /'((?:DATABASE|UPSTASH|QUEUE)_\w+|\w+_DATABASE)'/g,
  ).filter((code) => code !== 'UPSTASH_TOO_LARGE');
  expect(codes.length).toBeGreaterThan(15);
  const page = read('docs/operations.md');
  const others = ['TRANSACTION_POOLER', 'NOTIFICATIONS_LOST', 'STANDBY_REDIS_DIFFERS'];
  expect([...codes, ...others].filter((code) => !page.includes(`\`${code}\``))).toEqual([]);
});
