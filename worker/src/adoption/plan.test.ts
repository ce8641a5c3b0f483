import { expect, it } from 'vitest';
import { planFor } from './plan.ts';
import type { Template } from './template.ts';

const OURS = 'export const TTL = {};\nexport const types = {};\nexport const keys = {};\n';
const CACHE_TEXT = `import { createCache } from './cache/client/create-cache.ts';\n`;
const file = (name: string, text: string) => ({ name, source: name, text });
const template: Template = {
  migrations: [
    file('20261101000100_fencepost_schema.sql', 'create schema a;\n'),
    file('20261101020000_fencepost_queue.sql', 'create schema q;\n'),
  ],
  modules: [file('cache.ts', CACHE_TEXT), file('key-types.ts', OURS), file('cache/a.ts', 'a')],
};
const SCHEMA = 'supabase/migrations/20261101000100_fencepost_schema.sql';
const QUEUE = 'supabase/migrations/20261101020000_fencepost_queue.sql';
const CACHE = 'supabase/functions/_shared/cache.ts';
const KEY_TYPES = 'supabase/functions/_shared/key-types.ts';
const MODULE = 'supabase/functions/_shared/cache/a.ts';

function plan(texts: Record<string, string>, own: string[] = [], choices = {}) {
  const present = {
    migrations: [...own, ...Object.keys(texts).flatMap((path) => /migrations\/(.*)/.exec(path)?.[1] ?? [])],
    texts: new Map(Object.entries(texts)),
  };
  const { files, later } = planFor(template, present, { into: '_shared', force: false, ...choices });
  return {
    states: files.map(({ state }) => state),
    by: files.flatMap(({ by }) => by ?? []),
    lacks: files.flatMap(({ lacks }) => lacks ?? []),
    later,
  };
}

const OWN_CACHE = `export { createCache } from './cache/client/create-cache.ts';\n`;
const OWN = 'const types = { mine: 1 };\nexport {\n  keys,\n  types,\n};\nexport { TTL } from "./times.ts"\n';
const complete = {
  [SCHEMA]: 'create schema a;\n',
  [QUEUE]: 'create schema q;\n',
  [CACHE]: CACHE_TEXT,
  [KEY_TYPES]: OURS,
  [MODULE]: 'a',
};

it.each([
  ['an empty project', {}, {}, ['new', 'new', 'new', 'new', 'new']],
  ['the same files', complete, {}, ['same', 'same', 'same', 'same', 'same']],
  [
    'the same files with the ends of lines of Windows',
    { ...complete, [SCHEMA]: 'create schema a;\r\n' },
    {},
    ['same', 'same', 'same', 'same', 'same'],
  ],
  ['a changed migration', { ...complete, [QUEUE]: '--' }, {}, ['same', 'differs', 'same', 'same', 'same']],
  [
    'a changed migration, with force',
    { ...complete, [QUEUE]: '--' },
    { force: true },
    ['same', 'differs', 'same', 'same', 'same'],
  ],
  ['a changed module', { ...complete, [MODULE]: '//' }, {}, ['same', 'same', 'same', 'same', 'differs']],
  [
    'a changed module, with force',
    { ...complete, [MODULE]: '//' },
    { force: true },
    ['same', 'same', 'same', 'same', 'replaced'],
  ],
  ['an emptied module', { ...complete, [MODULE]: '' }, {}, ['same', 'same', 'same', 'same', 'differs']],
  [
    'a cache of one’s own',
    { ...complete, [CACHE]: OWN_CACHE },
    {},
    ['same', 'same', 'yours', 'same', 'same'],
  ],
  [
    'a cache of one’s own, with force',
    { ...complete, [CACHE]: OWN_CACHE },
    { force: true },
    ['same', 'same', 'yours', 'same', 'same'],
  ],
  [
    'key types of one’s own',
    { ...complete, [KEY_TYPES]: OWN },
    {},
    ['same', 'same', 'same', 'yours', 'same'],
  ],
  [
    'key types of one’s own, with force',
    { ...complete, [KEY_TYPES]: OWN },
    { force: true },
    ['same', 'same', 'same', 'yours', 'same'],
  ],
  ['a folder of one’s own', complete, { into: '_shared/fencepost' }, ['same', 'same', 'new', 'new', 'new']],
] as const)('%s', (_, texts, choices, states) => {
  expect(plan(texts, [], choices)).toMatchObject({ states, later: [] });
});

it('sees a version that another migration has', () => {
  expect(plan({}, ['20261101020000_orders.sql', '20261101000100.md'])).toMatchObject({
    states: ['new', 'taken', 'new', 'new', 'new'],
    by: ['20261101020000_orders.sql'],
  });
});

it.each([
  ['something else', 'export const products = ["a"];'],
  ['one that exports nothing', 'const types = {};\n'],
  ['a link to nothing', ''],
])('takes %s for nothing of ours, with force neither', (_, text) => {
  for (const force of [false, true]) {
    expect(plan({ ...complete, [KEY_TYPES]: text }, [], { force })).toMatchObject({
      states: ['same', 'same', 'same', 'differs', 'same'],
      lacks: ['export types'],
    });
    expect(plan({ ...complete, [CACHE]: text }, [], { force })).toMatchObject({
      states: ['same', 'same', 'differs', 'same', 'same'],
      lacks: ['import from ./cache/client/'],
    });
  }
});

it('names the migrations that come after ours, whether ours are new or not, and only those', () => {
  const own = [
    '20261115000000_notes.sql',
    '20250101000000_orders.sql',
    '20261101010000_tables.sql',
    'notes.md',
  ];
  const late = ['20261101010000_tables.sql', '20261115000000_notes.sql'];
  expect(plan({}, own).later).toEqual(late);
  expect(plan({ [SCHEMA]: complete[SCHEMA] }, own).later).toEqual(late);
  expect(plan(complete, own).later).toEqual(late);
  expect(plan(complete, ['20250101000000_orders.sql']).later).toEqual([]);
});
