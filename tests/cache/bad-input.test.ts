/** docs/cache.md says in one table what each argument and option refuses, and with which code: every row is tried, and none is missing. */
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { createCore } from '../../supabase/functions/_shared/cache/client/create-cache.ts';
import * as workbench from '../../supabase/functions/_shared/cache.ts';
import {
  type Cache,
  type CacheOptions,
  createCache,
  type GetOrSetOptions,
  type KeyTypes,
  keyBuilders,
  type LoadToken,
} from '../../supabase/functions/_shared/cache.ts';

const page = readFileSync(new URL('../../docs/cache.md', import.meta.url), 'utf8');
const rows = page
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
  signal: [
    [
      {},
      'signal',
      null,
      new AbortController(),
      { aborted: false, addEventListener: () => {} },
      { aborted: false, addEventListener: 5, throwIfAborted: 5 },
    ],
    new AbortController().signal,
  ],
  bypass: [['true', 1, null], true],
  fresh: [['true', 1, null], true],
  identity: [NO_STRING, 'user-1'],
  onOutcome: [NO_FUNCTION, () => {}],
};

const ofCaches: Cases<CacheOptions> = {
  types: [
    [
      { a: { key: 'no-type', entity: 7, ttl: 1 } },
      { a: { key: 'a:{id}', entity: 2, ttl: -1 } },
      { a: { key: 'a:{id}', entity: 2, ttl: 1, hitrate: 0.9 } },
      { a: new Map() },
      ...[null, 5, [], new Map(), new Date()],
    ],
    {},
  ],
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
      { ttl: 250, max: 1, size: 5 },
    ],
    { ttl: 250, max: 1_000 },
  ],
  serializer: [[null, 'superjson', {}, { parse: JSON.parse }, { parse: 5, stringify: 5 }], JSON],
  log: [NO_FUNCTION, () => {}],
  onHit: [NO_FUNCTION, () => {}],
  onMiss: [NO_FUNCTION, () => {}],
  onError: [NO_FUNCTION, () => {}],
  connection: [[5, {}, { getMany: () => [] }], null],
  runtime: [[null, 5, {}, { now: Date.now }], undefined],
};

/** What is no options object for anybody. */
const NO_OPTIONS: readonly unknown[] = [
  ...[null, 5, '5m', true, [60], new Date(0), new Map(), new Set(), /ttl/, new Error('ttl'), () => {}],
  ...[new Number(60), new (class Options {})(), Promise.resolve({})],
];

const KEY = 'bad:input';
const NO_KEY = ['', 'fence:a', 'fencepost:epoch', 'a\0', '\ud800', 'k'.repeat(4_097), 5];
const cache = createCache({ connection: null });
const never = () => expect.unreachable('loaded');
const as = <T>(value: unknown) => value as T;

const ofArguments: Readonly<Record<string, readonly [unknown[], (value: unknown) => Promise<unknown>]>> = {
  key: [[...NO_KEY, 'a:*', 'a?', '[a', 'a]', 'a\\'], (value) => cache.getOrSet(as<string>(value), never)],
  glob: [NO_KEY, (value) => cache.delPattern(as<string>(value))],
  keys: [
    [...['abc', 5, null, undefined, {}, new Set([KEY])], [KEY, 5], Array(1)],
    async (value) => {
      const refused = { code: codeOf('keys') };
      await expect(cache.getOrSetMany(as<string[]>(value), never)).rejects.toMatchObject(refused);
      await cache.getMany(as<string[]>(value));
    },
  ],
  token: [
    [
      ...[null, 5, 'token', {}, { key: KEY }, { key: KEY, stamp: {} }, { stamp: null }],
      { key: 'bad:other', stamp: null },
      { key: KEY, stamp: { fences: [5], epoch: null, loadedAt: 1 } },
      { key: KEY, stamp: { fences: Array(1), epoch: null, loadedAt: Number.NaN } },
    ],
    (value) => cache.set(KEY, 1, 60, as<LoadToken>(value)),
  ],
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
      'options',
      'createCache',
    ];
    expect(new Set(named)).toEqual(new Set(known));
  });

  it.each(Object.entries(ofCalls))('is right about %s of a call', async (name, [refused, taken]) => {
    for (const value of refused) {
      const options = as<GetOrSetOptions>({ [name]: value });
      const expected = { name: 'CacheError', code: codeOf(name) };
      await expect(cache.getOrSet(KEY, never, options), String(value)).rejects.toMatchObject(expected);
      await expect(cache.getOrSetMany([KEY], never, options)).rejects.toMatchObject(expected);
      const wrapped = async () => cache.wrap(never, { key: KEY, ...as<object>(options) })();
      await expect(wrapped()).rejects.toMatchObject(expected);
    }
    const load = () => new Promise((resolve) => setImmediate(resolve, 'loaded'));
    expect(await cache.getOrSet(KEY, load, as<GetOrSetOptions>({ [name]: taken }))).toBe('loaded');
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

  /** JSON would write the last ones as it writes a list that was taken before. */
  const noDependencies = [{ toJSON: () => 'user:7:*' }, new String('user:7:*'), undefined];
  it.each(['', '*', 'user', 'user:*', 'a:*:b', 'a:?', 'fence:a', 5, null, ...noDependencies])(
    'is right about the dependency %j',
    async (dependency) => {
      const code = codeOf('dependsOn: […]');
      await cache.getOrSet(KEY, () => 1, { dependsOn: ['user:7:*'] });
      const dependsOn = dependency === undefined ? Array<string>(1) : [as<string>(dependency)];
      await expect(cache.getOrSet(KEY, never, { dependsOn })).rejects.toMatchObject({ code });
      await expect(cache.getOrSetMany([KEY], never, { dependsOn: () => dependsOn })).rejects.toMatchObject({
        code,
      });
    },
  );

  const expected = { name: 'CacheError', code: codeOf('options') };

  it.each(NO_OPTIONS)('is right about %o in place of options', async (value) => {
    const options = as<object>(value);
    // A number, a text and a function are no options in the third place either: there they are no ttl.
    if (typeof value === 'object' && value !== null) {
      await expect(cache.getOrSet(KEY, never, options)).rejects.toMatchObject(expected);
      await expect(cache.getOrSetMany([KEY], never, options)).rejects.toMatchObject(expected);
    }
    await expect(cache.getOrSet(KEY, never, 60, options)).rejects.toMatchObject(expected);
    await expect(cache.getOrSetMany([KEY], never, 60, options)).rejects.toMatchObject(expected);
    expect(() => cache.wrap(never, as<{ key: string }>(value))).toThrow(expect.objectContaining(expected));
    expect(() => createCache(options)).toThrow(expect.objectContaining(expected));
    expect(() => createCore(options)).toThrow(expect.objectContaining(expected));
    expect(() => keyBuilders(as<KeyTypes>(value))).toThrow(expect.objectContaining(expected));
  });

  it('is right about names that no option has, and repeats none that may be a key', async () => {
    for (const name of ['tll', 'TTL', 'constructor', 'toString', '__proto__', 'quota:org-1:x', 'url ']) {
      const options = as<object>(JSON.parse(`{ ${JSON.stringify(name)}: 5 }`));
      const rejected = { ...expected, message: expect.not.stringContaining('quota:') };
      await expect(cache.getOrSet(KEY, never, options), name).rejects.toMatchObject(rejected);
      await expect(cache.getOrSet(KEY, never, 60, options), name).rejects.toMatchObject(rejected);
      await expect(cache.getOrSetMany([KEY], never, options), name).rejects.toMatchObject(rejected);
      const wrap = () => cache.wrap(never, Object.assign(options, { key: KEY }));
      if (name !== '__proto__') expect(wrap, name).toThrow(expect.objectContaining(expected));
      expect(() => createCache(options), name).toThrow(expect.objectContaining(expected));
    }
    await expect(cache.getOrSet(KEY, never, as<object>({ tll: 5 }))).rejects.toThrow(
      'There is no option tll of a call; there are ttl, negativeTtl,',
    );
  });

  it('is right about what is said twice', async () => {
    // @ts-expect-error the ttl stands in two places
    await expect(cache.getOrSet(KEY, never, 60, { ttl: 300 })).rejects.toMatchObject(expected);
    // @ts-expect-error options stand in two places
    await expect(cache.getOrSet(KEY, never, { fresh: true }, { ttl: 300 })).rejects.toMatchObject(expected);
    // @ts-expect-error a name that no option has
    await expect(cache.getOrSetMany([KEY], never, 60, { tll: 300 })).rejects.toMatchObject(expected);
  });

  const takesNone = [
    ...(['get', 'lookup', 'begin', 'delPattern', 'getMany'] as const),
    ...(['invalidateSession', 'invalidateOrganizationQuotas'] as const),
  ];
  it.each(takesNone)(
    'is right about options of %s, which takes none, and about what map adds',
    async (name) => {
      const use = as<(...given: unknown[]) => Promise<unknown>>(cache[name]);
      const first = name === 'getMany' ? [KEY] : KEY;
      await expect(use(first, { fresh: true })).rejects.toMatchObject(expected);
      await Promise.all([first].map(use));
    },
  );

  it.each(['set', 'getOrSet', 'getOrSetMany', 'wrap', 'invalidateSession'] as const)(
    'is right about options of %s behind all that it takes',
    async (name) => {
      const arguments_ = {
        set: [KEY, 1, 60, undefined],
        getOrSet: [KEY, never, {}, undefined],
        getOrSetMany: [[KEY], never, 60, {}],
        wrap: [never, { key: KEY }],
        invalidateSession: ['s1'],
      }[name];
      for (const { [name]: use } of [cache, workbench]) {
        const called = async () => as<(...given: unknown[]) => unknown>(use)(...arguments_, { fresh: true });
        await expect(called()).rejects.toMatchObject(expected);
      }
    },
  );

  it('is right about a function of wrap that gives no list', async () => {
    const dependsOn = as<() => string[]>(() => {});
    await expect(cache.wrap(never, { key: KEY, dependsOn })()).rejects.toMatchObject({
      code: codeOf('dependsOn'),
    });
  });

  it('is right about answers of a batch loader that hold no key it was asked for', async () => {
    for (const given of [{}, { 'other:key': 1 }])
      expect(await cache.getOrSetMany([KEY], () => given)).toEqual(new Map([[KEY, undefined]]));
  });

  it.each([
    { url: '"https://a.example"' },
    { url: 'rediss://a.example' },
    { url: 'https://user@a.example' },
    { url: 'https://name.upstash.io/redis' },
    { url: 'https://name.upstash.io:6379' },
    { url: 'https://https://name.upstash.io' },
    { url: 'https://name.upstash.io,' },
    { url: "https://a.example'" },
    { token: 'a b' },
    { token: "'a'" },
    { token: '"a' },
    { prefix: 'a'.repeat(101) },
    { prefix: 'a\ud800:' },
    { prefix: 'a\0:' },
  ])('is right about what disables the cache: %j', async (options) => {
    const lines: string[] = [];
    createCache({ url: 'https://a.example', token: 'a', log: (line) => lines.push(line), ...options });
    expect(lines).toEqual([expect.stringMatching(/^cache: disabled; /)]);
  });
});

/** Both directions: a code that nothing throws any more is no longer documented, and none is thrown that nobody can look up. */
it('the table of errors has each code that is thrown, and no other', () => {
  const folder = new URL('../../supabase/functions/_shared/cache/', import.meta.url);
  const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((path) => /(?<!\.test)\.ts$/.test(path))
    .map((path) => readFileSync(new URL(path, folder), 'utf8'));
  const codesIn = (text: string, pattern: RegExp) =>
    [...new Set([...text.matchAll(pattern)].map(([, code]) => code))].sort();
  const thrown = codesIn(sources.join('\n'), /(?:new CacheError|super)\(\s*'([A-Z_]+)'/g);
  const declared = codesIn(sources.join('\n'), /^ {2}\| '([A-Z_]+)'/gm);
  const table = page.split('| code | when |')[1]?.split('\n\n')[0] ?? '';
  expect(codesIn(table, /^\| `([A-Z_]+)` \|/gm)).toEqual(thrown);
  expect(declared).toEqual(thrown);
});
