/** docs/cache.md says in one table what each argument and option refuses, and with which code: every row is tried, and none is missing. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  type Cache,
  type CacheOptions,
  createCache,
  type GetOrSetOptions,
} from '../../supabase/functions/_shared/cache.ts';

const rows = readFileSync(new URL('../../docs/cache.md', import.meta.url), 'utf8')
  .split('| argument or option |')[1]
  ?.split('\n\n')[0]
  ?.split('\n')
  .slice(2)
  .map((line) => line.split(' | ').map((cell) => cell.replace(/^\| | \|$/g, ''))) as [
  string,
  string,
  string,
][];

/** What a name of the table is refused with; undefined: nothing. */
function codeOf(name: string): string | undefined {
  const row = rows.find(([names]) => names.includes(`\`${name}\``));
  if (row === undefined) throw new Error(`docs/cache.md says nothing of ${name}.`);
  return /^`([A-Z_]+)`/.exec(row[2])?.[1];
}

const NO_TIME = [
  '5',
  '5 m',
  'm',
  '-1m',
  '5min',
  '1e3s',
  '11y',
  '4000d',
  -1,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  1e15,
  '60',
  null,
];
const NO_STRING = [5, null, {}];
const NO_FUNCTION = ['log', null, {}];

/** Values that each option refuses, and one that it takes. TypeScript holds that no option is missing. */
type Cases<Options> = Readonly<Record<keyof Options, readonly [refused: readonly unknown[], taken: unknown]>>;

const ofCalls: Cases<GetOrSetOptions> = {
  ttl: [NO_TIME, 60],
  dependsOn: [
    ['user:7:*', 5, null, {}, () => 5, Array.from({ length: 64 }, (_, user) => `user:${user}:*`)],
    ['user:7:*', 'session:s1:state'],
  ],
  negativeTtl: [NO_TIME, 0.5],
  degradedMaxAge: [NO_TIME, 0],
  staleWhileRevalidate: [NO_TIME, 60],
  staleIfError: [NO_TIME, 60],
  timeout: [[...NO_TIME, 2_147_483_648], 10_000],
  lease: [[...NO_TIME, 60_001], 0],
  signal: [[{}, 'signal', null, new AbortController()], new AbortController().signal],
  bypass: [['true', 1, null], true],
  fresh: [['true', 1, null], true],
  identity: [NO_STRING, 'user-1'],
  onOutcome: [NO_FUNCTION, () => {}],
};

const ofCaches: Cases<CacheOptions> = {
  types: [[{ a: { key: 'no-type', entity: 7, ttl: 1 } }, { a: { key: 'a:{id}', entity: 2, ttl: -1 } }], {}],
  url: [NO_STRING, ''],
  token: [NO_STRING, ''],
  prefix: [NO_STRING, ''],
  timeout: [[...NO_TIME, 0, 2_147_483_648], 1],
  lease: [[...NO_TIME, 60_001], 60_000],
  degradedMaxAge: [NO_TIME, 0],
  maxValueBytes: [[-1, Number.NaN, '1', Number.POSITIVE_INFINITY], 0],
  local: [
    [
      null,
      5,
      {},
      { ttl: 0, max: 1 },
      { ttl: 60_001, max: 1 },
      { ttl: '250', max: 1 },
      { ttl: 250, max: 0.5 },
      { ttl: 250 },
    ],
    { ttl: 250, max: 1_000 },
  ],
  serializer: [[null, 'superjson', {}, { parse: JSON.parse }, { parse: 5, stringify: 5 }], JSON],
  log: [NO_FUNCTION, () => {}],
  onHit: [NO_FUNCTION, () => {}],
  onMiss: [NO_FUNCTION, () => {}],
  onError: [NO_FUNCTION, () => {}],
  connection: [[], null],
  runtime: [[], undefined],
};

const KEY = 'bad:input';
const NO_KEY = ['', 'fence:a', 'fencepost:epoch', 'a\0', '\ud800', 'k'.repeat(4_097), 5];
const cache = createCache({ connection: null });
const never = () => expect.unreachable('loaded');
const as = <T>(value: unknown) => value as T;

const ofArguments: Readonly<Record<string, readonly [unknown[], (value: unknown) => Promise<unknown>]>> = {
  key: [[...NO_KEY, 'a:*', 'a?', '[a', 'a]', 'a\\'], (value) => cache.getOrSet(as<string>(value), never)],
  glob: [NO_KEY, (value) => cache.delPattern(as<string>(value))],
  load: [[undefined, null, 5, {}], (value) => cache.getOrSet(KEY, as<() => void>(value))],
  loadMany: [
    [null, 'x', () => null, () => [], () => new Set(), () => ({ data: [], error: null })],
    (value) => cache.getOrSetMany([KEY], as<() => Record<string, unknown>>(value)),
  ],
  fn: [[undefined, null, 5, {}], async (value) => cache.wrap(as<() => void>(value), { key: KEY })],
  'options.key': [
    [undefined, null, 5, {}, KEY],
    async (value) => cache.wrap((row: number) => row, { key: as<string>(value) })(1),
  ],
  value: [[5n, -0, Number.NaN, new Date(), { data: null, error: 'x' }], (value) => cache.set(KEY, value)],
  ttl: [NO_TIME, (value) => cache.getOrSet(KEY, never, as<number>(value))],
};

describe('the table of docs/cache.md', () => {
  it('names each option and argument, and nothing else', () => {
    const named = rows.flatMap(([names]) => [...names.matchAll(/`([\w.]+)`/g)].map(([, name = '']) => name));
    const known = [
      ...Object.keys(ofCalls),
      ...Object.keys(ofCaches),
      ...Object.keys(ofArguments),
      'createCache',
    ];
    expect(new Set(named)).toEqual(new Set(known));
  });

  it.each(Object.entries(ofCalls))('is right about %s of a call', async (name, [refused, taken]) => {
    for (const value of refused) {
      const options = as<GetOrSetOptions>({ [name]: value });
      const expected = { name: 'CacheError', code: codeOf(name) };
      await expect(cache.getOrSet(KEY, never, 60, options), String(value)).rejects.toMatchObject(expected);
      await expect(cache.getOrSetMany([KEY], never, 60, options)).rejects.toMatchObject(expected);
    }
    const load = () => new Promise((resolve) => setImmediate(resolve, 'loaded'));
    expect(await cache.getOrSet(KEY, load, 60, as<GetOrSetOptions>({ [name]: taken }))).toBe('loaded');
  });

  it.each(Object.entries(ofCaches))('is right about %s of createCache', (name, [refused, taken]) => {
    const create = (value: unknown): Cache =>
      createCache({ log: () => {}, ...as<CacheOptions>({ [name]: value }) });
    const code = name === 'token' ? 'INVALID_CONFIGURATION' : codeOf(name);
    for (const value of refused)
      expect(() => create(value), String(value)).toThrow(expect.objectContaining({ code }));
    expect(refused.length > 0).toBe(code !== undefined);
    create(taken);
  });

  it.each(Object.entries(ofArguments))('is right about the argument %s', async (name, [refused, use]) => {
    for (const value of refused)
      await expect(use(value), String(value)).rejects.toMatchObject({
        name: 'CacheError',
        code: codeOf(name),
      });
  });

  it.each(['', '*', 'user', 'user:*', 'a:*:b', 'a:?', 'fence:a', 5, null])(
    'is right about the dependency %j',
    async (dependency) => {
      const code = codeOf('dependsOn: […]');
      const dependsOn = [as<string>(dependency)];
      await expect(cache.getOrSet(KEY, never, { dependsOn })).rejects.toMatchObject({ code });
      await expect(cache.getOrSetMany([KEY], never, { dependsOn: () => dependsOn })).rejects.toMatchObject({
        code,
      });
    },
  );

  it('is right about a token of begin', async () => {
    const token = await cache.begin('bad:other');
    await expect(cache.set(KEY, 1, 60, token)).rejects.toMatchObject({ code: codeOf('token') });
  });

  it.each([
    { url: '"https://a.example"' },
    { url: 'rediss://a.example' },
    { url: 'https://user@a.example' },
    { token: 'a b' },
    { token: "'a'" },
    { prefix: 'a'.repeat(101) },
  ])('is right about what disables the cache: %j', async (options) => {
    const lines: string[] = [];
    createCache({ url: 'https://a.example', token: 'a', log: (line) => lines.push(line), ...options });
    expect(lines).toEqual([expect.stringMatching(/^cache: disabled; /)]);
  });
});
