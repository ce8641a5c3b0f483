/**
 * What can happen in one run of the interleaving property: actors with their actions, faults of the network, and the
 * scheduler that orders them. interleavings.ts plays it.
 */
import * as fc from 'fast-check';
import type { Fault } from './scheduled-redis.ts';

/**
 * Two keys of one entity, one of another entity of the same type, one of a type whose entity is the whole key, and two of a
 * first segment that no type declares, whose fences expire.
 */
export const KEYS = [
  'quota:org-1:a:x',
  'quota:org-1:a:y',
  'quota:org-2:a:x',
  'cost:a:x',
  'own:a',
  'own:a:b',
] as const;
export type Key = (typeof KEYS)[number];

/** An answer that is made of the rows of other keys, and what its loader names for them. */
export const REPORT = 'report:1';
export const REPORT_PARTS: readonly Key[] = ['quota:org-1:a:x', 'quota:org-1:a:y', 'cost:a:x'];
export const REPORT_DEPENDS_ON = ['quota:org-1:*', 'cost:a:x'];

// Most of what goes wrong needs several actors at one key of one isolate, so one of each is chosen more often.
const [favourite] = KEYS;
const key = fc.constantFrom<Key>(favourite, favourite, favourite, favourite, ...KEYS);
const isolate = fc.constantFrom<0 | 1 | 2>(0, 0, 1);
const pause = fc.constantFrom(0, 0, 1, 3);
const worker = fc.constantFrom(0, 0, 1);
/** The part that invalidates: the worker, for a committed write, or the application, by del and delPattern. */
const by = fc.constantFrom('worker' as const, 'worker' as const, 'application' as const);
const machinery = fc.constantFrom('heartbeat' as const, 'epoch' as const);

/** What an actor does, after having let some steps of the others pass. */
const action = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('getOrSet' as const),
      key,
      isolate,
      ttl: fc.constantFrom(1, 60),
      pause,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('stale' as const), key, isolate, pause }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('getOrSetMany' as const),
      keys: fc.uniqueArray(key, { minLength: 2 }),
      isolate,
      pause,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('get, load, set' as const),
      key,
      isolate,
      /** Also after a hit, as a program does that takes a cached null for nothing. */
      always: fc.boolean(),
      pause,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('report' as const), depends: fc.boolean(), isolate, pause }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('former getOrSet' as const), key, pause }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('begin, load, set' as const), key, isolate, pause }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      key,
      reach: fc.constantFrom('key' as const, 'group' as const, 'type' as const, 'all' as const),
      by,
      pause,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('evict' as const), victim: fc.nat(12), pause }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('evict' as const), victim: machinery, pause }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('beat' as const), worker, pause }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('time passes' as const),
      milliseconds: fc.constantFrom(20, 600, 2_000, 70_000),
      pause,
    }),
  },
);

const scenarioOf = <T>(
  actions: fc.Arbitrary<T>,
  faults: readonly Fault[],
  { lease = fc.constant(1_000), local = false }: { lease?: fc.Arbitrary<number>; local?: boolean } = {},
) =>
  fc.record({
    scheduler: fc.scheduler(),
    actors: fc.array(fc.array(actions, { minLength: 1, maxLength: 4 }), { minLength: 2, maxLength: 5 }),
    faults: fc.array(fc.constantFrom(...faults), { maxLength: 12 }),
    /** Seconds: the usual, and more than a heartbeat lasts. */
    degradedMaxAge: fc.constantFrom(30, 600),
    /** Milliseconds. */
    lease,
    /** The isolates have a first level in process. */
    local: fc.constant(local),
  });

const none: Fault[] = ['none', 'none', 'none', 'none'];

/** Everything that can happen. */
export const scenario = scenarioOf(action, [...none, 'lost request', 'lost reply', 'late request']);

const readOf = {
  kind: fc.constant('getOrSet' as const),
  key: fc.constant<Key>(favourite),
  isolate: fc.constantFrom(0, 1),
  ttl: fc.constant(60),
  pause: fc.constant(0),
};
const read = fc.record(readOf);
const write = (reach: fc.Arbitrary<'key' | 'all'>, by: fc.Arbitrary<'worker' | 'application'>) =>
  fc.record({
    kind: fc.constant('write' as const),
    key: fc.constant<Key>(favourite),
    reach,
    by,
    pause: fc.constant(0),
  });

/** Readers and writers of one key and nothing else: where a cache that is built wrong is found out soonest. */
export const duel: typeof scenario = scenarioOf(
  fc.oneof(read, write(fc.constantFrom('key', 'all'), fc.constant('worker'))),
  ['none'],
);

/** Readers of one key, both kinds of `*`, beats, and the loss of what tells the epoch. */
export const epochs: typeof scenario = scenarioOf(
  fc.oneof(
    { weight: 3, arbitrary: read },
    { weight: 2, arbitrary: write(fc.constant('all'), by) },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('evict' as const), victim: machinery, pause: fc.constant(0) }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('beat' as const), worker, pause: fc.constant(0) }),
    },
  ),
  [...none, 'lost request', 'lost reply', 'late request'],
);

/** Readers of an answer with dependencies, by callers that name them and callers that do not, and writes to what it depends on. */
export const dependent: typeof scenario = scenarioOf(
  fc.oneof(
    fc.record({
      kind: fc.constant('report' as const),
      depends: fc.constantFrom(true, true, false),
      isolate: fc.constantFrom<0 | 1 | 2>(0, 1),
      pause: fc.constant(0),
    }),
    write(fc.constantFrom('key', 'all'), fc.constant('worker')),
  ),
  ['none'],
);

/** Programs that load themselves what they did not find, or found, and writes. */
export const plain: typeof scenario = scenarioOf(
  fc.oneof(
    fc.record({
      kind: fc.constant('get, load, set' as const),
      key: fc.constant<Key>(favourite),
      isolate: fc.constantFrom<0 | 1 | 2>(0, 1),
      always: fc.boolean(),
      pause: fc.constant(0),
    }),
    write(fc.constantFrom('key', 'all'), fc.constant('worker')),
  ),
  ['none'],
);

const local = (by: 'worker' | 'application'): typeof scenario =>
  scenarioOf(
    fc.oneof(
      { weight: 4, arbitrary: fc.record({ ...readOf, isolate: fc.constant(0) }) },
      {
        weight: 1,
        arbitrary: fc.record({
          kind: fc.constant('get, load, set' as const),
          key: fc.constant<Key>(favourite),
          isolate: fc.constant<0 | 1 | 2>(0),
          always: fc.boolean(),
          pause: fc.constant(0),
        }),
      },
      { weight: 3, arbitrary: write(fc.constantFrom('key', 'all'), fc.constant(by)) },
    ),
    [...none, 'lost request', 'lost reply', 'late request'],
    { local: true },
  );

/** One isolate with a first level, which does all the invalidating itself. */
export const ownDeletions = local('application');

/** The same where the worker invalidates, of which the isolate learns nothing in time: what the bound on staleness is for. */
export const foreignDeletions = local('worker');

const readOfHerd = fc.record({ ...readOf, isolate: fc.constantFrom(0, 1, 2), pause });

/** Readers of one key in three isolates, where nothing is written, lost or over: one load serves them all. */
export const herd: typeof scenario = scenarioOf(readOfHerd, ['none'], { lease: fc.constant(30_000) });

/** The same with invalidations in between: each costs one load. */
export const invalidatedHerd: typeof scenario = scenarioOf(
  fc.oneof(
    { weight: 5, arbitrary: readOfHerd },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('write' as const),
        key: fc.constant<Key>(favourite),
        reach: fc.constantFrom('key' as const, 'group' as const),
        by: fc.constant('worker' as const),
        pause,
      }),
    },
  ),
  ['none'],
  { lease: fc.constant(30_000) },
);

export type Scenario = typeof scenario extends fc.Arbitrary<infer T> ? T : never;
export type Action = Scenario['actors'][number][number];
