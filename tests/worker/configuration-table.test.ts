/**
 * The README's table of variables against the code: it names every variable that is read, none that is not, who reads it, and
 * the default that holds.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readSettings } from '../../supabase/functions/_shared/http/settings.ts';
import { readConfiguration, VARIABLES } from '../../worker/src/lib/config.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** What is no setting: the system's own, and the mark by which the local stack finds its processes. */
const NO_SETTINGS = ['PATH', 'FENCEPOST_OWNER'];

const WORKER = {
  DATABASE_URL: 'postgresql://u:p@db.example.com:5432/postgres',
  UPSTASH_REDIS_REST_URL: 'https://name.upstash.io',
  UPSTASH_REDIS_REST_TOKEN: 'AXt0',
};
const FUNCTIONS = { SUPABASE_URL: 'https://ref.supabase.co', SUPABASE_ANON_KEY: 'anon' };

interface Row {
  readonly name: string;
  readonly readers: string;
  readonly preset: string;
}

const table: Row[] = readFileSync(join(repository, 'README.md'), 'utf8')
  .split('## Configuration')[1]
  ?.split('\n## ')[0]
  ?.split('\n')
  .flatMap((line) => {
    const [, names = '', readers = '', preset = ''] = line.split('|').map((cell) => cell.trim());
    return [...names.matchAll(/`([A-Z_]+)`/g)].map(([, name = '']) => ({ name, readers, preset }));
  }) as Row[];

/** Names that the sources below a folder take from the environment by name. */
function namesIn(folder: string): string[] {
  const path = join(repository, folder);
  return readdirSync(path, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(ts|mjs)$/.test(file) && !/\.test\.ts$|node_modules/.test(file))
    .flatMap((file) => [
      ...readFileSync(join(path, file), 'utf8').matchAll(
        /process\.env\.([A-Z_]+)|environmentVariable\('([A-Z_]+)'\)|\b(FENCEPOST_[A-Z_]*[A-Z])\b/g,
      ),
    ])
    .map(([, one, two, three]) => one ?? two ?? three ?? '')
    .filter((name) => !NO_SETTINGS.includes(name));
}

/** Names that the functions' settings ask for. */
function askedBySettings(): string[] {
  const asked = new Set<string>();
  const environment: Record<string, string> = FUNCTIONS;
  readSettings(
    new Proxy(environment, {
      get: (target, name) => {
        asked.add(String(name));
        return target[String(name)];
      },
    }),
  );
  return [...asked];
}

const sorted = (names: Iterable<string>) => [...new Set(names)].sort();
const readBy = (reader: string) =>
  sorted(table.filter((row) => row.readers.split(' ').includes(reader)).map((row) => row.name));

describe("the README's table of variables", () => {
  it('names each once', () => {
    expect(table.length).toBeGreaterThan(20);
    expect(sorted(table.map((row) => row.name))).toHaveLength(table.length);
  });

  it('has what the worker reads, and nothing else', () => {
    expect(readBy('W')).toEqual(sorted([...VARIABLES, ...namesIn('worker/src')]));
  });

  it('has what the functions read, and nothing else', () => {
    expect(readBy('F')).toEqual(sorted([...askedBySettings(), ...namesIn('supabase/functions')]));
  });

  it('has every variable of ours that the local stack knows', () => {
    const ours = namesIn('local').filter((name) => name.startsWith('FENCEPOST_'));
    expect(ours).toContain('FENCEPOST_LOCAL_DIR');
    expect(table.map((row) => row.name)).toEqual(expect.arrayContaining(ours));
  });

  it('marks as required what the worker cannot do without', () => {
    expect(table.filter((row) => row.preset === 'required').map((row) => row.name)).toEqual(
      Object.keys(WORKER),
    );
    for (const name of Object.keys(WORKER)) {
      expect(() => readConfiguration({ ...WORKER, [name]: undefined })).toThrow(`${name} is missing`);
    }
  });

  const literal = (row: Row) => /^`([^`]+)`$/.exec(row.preset)?.[1];
  const withLiteral = table.flatMap((row) => {
    const value = literal(row);
    return value === undefined ? [] : [[row.name, value] as const];
  });

  it.each(withLiteral.filter(([name]) => VARIABLES.includes(name)))(
    '%s is %s in the worker when it is not set',
    (name, value) => {
      expect(readConfiguration({ ...WORKER, [name]: value })).toEqual(readConfiguration(WORKER));
    },
  );

  it.each(withLiteral.filter(([name]) => askedBySettings().includes(name)))(
    '%s is %s in the functions when it is not set',
    (name, value) => {
      const set = value.replace('$SUPABASE_URL', FUNCTIONS.SUPABASE_URL);
      expect(readSettings({ ...FUNCTIONS, [name]: set })).toEqual(readSettings(FUNCTIONS));
    },
  );

  it('says `none` or `empty` of what has no default', () => {
    for (const name of ['QUEUE_REDIS_URL', 'FENCEPOST_JWT_SECRET'])
      expect(table.find((row) => row.name === name)?.preset).toBe('none');
    expect(readConfiguration(WORKER)).toMatchObject({ queueRedisUrl: undefined, cachePrefix: '' });
    expect(readSettings(FUNCTIONS).jwtSecret).toBeUndefined();
  });
});
