/**
 * What each call costs, as Upstash would bill it: counted at the gateway, by command. docs/cache.md and docs/benchmarks.md give these
 * numbers.
 */
import { expect, it } from 'vitest';
import { systemRuntime } from '../../supabase/functions/_shared/cache/redis/runtime.ts';
import type { Cache } from '../../supabase/functions/_shared/cache.ts';
import { TOKEN, useUpstash } from '../support/upstash.ts';
import { Support } from './conformance/support.ts';

const KEY = 'quota:org-1:openai:gpt-5';
const SIBLING = 'quota:org-1:openai:gpt-4';

const upstash = useUpstash();

/** What there is before the call that is counted. */
interface Before {
  readonly cache: Cache;
  readonly support: Support;
}

interface Case {
  readonly name: string;
  readonly prepare?: (before: Before) => Promise<unknown>;
  readonly call: (cache: Cache) => Promise<unknown>;
  readonly requests: number;
  readonly billed: Readonly<Record<string, number>>;
}

const dependsOn = Array.from({ length: 10 }, (_, user) => `user:${user}:*`);

const load = () => ({ limit: 5 });

const cases: readonly Case[] = [
  {
    name: 'a hit',
    prepare: ({ cache }) => cache.getOrSet(KEY, load),
    call: (cache) => cache.getOrSet(KEY, load),
    requests: 1,
    billed: { MGET: 1 },
  },
  {
    name: 'a miss while the fences stand',
    prepare: ({ cache }) => cache.getOrSet(SIBLING, load),
    call: (cache) => cache.getOrSet(KEY, load),
    requests: 3,
    billed: { MGET: 1, SET: 2 },
  },
  {
    name: 'the same for a key of three fences',
    prepare: ({ cache }) => cache.begin('cost:openai:gpt-5'),
    call: (cache) => cache.getOrSet('cost:openai:gpt-5', load),
    requests: 3,
    billed: { MGET: 1, SET: 2 },
  },
  {
    name: 'the same for a key of no declared type',
    prepare: ({ cache }) => cache.begin('otp:login:alice'),
    call: (cache) => cache.getOrSet('otp:login:alice', load),
    requests: 3,
    billed: { MGET: 1, SET: 2 },
  },
  {
    name: 'a miss while the fences stand, without a lease',
    prepare: ({ cache }) => cache.getOrSet(SIBLING, load),
    call: (cache) => cache.getOrSet(KEY, load, 60, { lease: 0 }),
    requests: 2,
    billed: { MGET: 1, SET: 1 },
  },
  {
    name: 'a miss after an invalidation',
    prepare: async ({ cache }) => {
      await cache.getOrSet(KEY, load);
      await cache.delPattern('quota:org-1:*');
    },
    call: (cache) => cache.getOrSet(KEY, load),
    requests: 3,
    billed: { MGET: 1, SET: 3 },
  },
  {
    name: 'a hit with ten dependencies',
    prepare: ({ cache }) => cache.getOrSet(KEY, load, 60, { dependsOn }),
    call: (cache) => cache.getOrSet(KEY, load, 60, { dependsOn }),
    requests: 1,
    billed: { MGET: 1 },
  },
  {
    name: 'a miss after one of ten dependencies was invalidated',
    prepare: async ({ cache }) => {
      await cache.getOrSet(KEY, load, 60, { dependsOn });
      await cache.del('user:7:prefs');
    },
    call: (cache) => cache.getOrSet(KEY, load, 60, { dependsOn }),
    requests: 3,
    billed: { MGET: 1, SET: 3 },
  },
  {
    name: 'the first load with ten dependencies: their fences, their type and its own are missing',
    call: (cache) => cache.getOrSet(KEY, load, 60, { dependsOn }),
    requests: 3,
    billed: { MGET: 1, SET: 15 },
  },
  {
    name: 'the first key of another organisation: one fence is missing',
    prepare: ({ cache }) => cache.getOrSet('quota:org-2:openai:gpt-5', load),
    call: (cache) => cache.getOrSet(KEY, load),
    requests: 3,
    billed: { MGET: 1, SET: 3 },
  },
  {
    name: 'the first key of a type: two are missing',
    call: (cache) => cache.getOrSet(KEY, load),
    requests: 3,
    billed: { MGET: 1, SET: 4 },
  },
  {
    name: 'the first key of a type of three fences',
    call: (cache) => cache.getOrSet('cost:openai:gpt-5', load),
    requests: 3,
    billed: { MGET: 1, SET: 5 },
  },
  {
    name: 'the first load in an empty database: the epoch is missing too',
    prepare: ({ support }) =>
      support.redis('DEL', support.key('fencepost:epoch'), support.key('fencepost:heartbeat')),
    call: (cache) => cache.getOrSet(KEY, load),
    requests: 3,
    billed: { MGET: 1, SET: 5 },
  },
  {
    name: 'ten misses at once, of one organisation',
    prepare: ({ cache }) => cache.getOrSet(KEY, load),
    call: (cache) =>
      cache.getOrSetMany(
        Array.from({ length: 10 }, (_, model) => `quota:org-1:openai:${model}`),
        async () => ({}),
      ),
    requests: 3,
    billed: { MGET: 1, SET: 20 },
  },
  {
    name: 'two hundred cold readers of one isolate',
    call: (cache) => Promise.all(Array.from({ length: 200 }, () => cache.getOrSet(KEY, load))),
    requests: 4,
    billed: { MGET: 2, SET: 4 },
  },
  {
    name: 'del of three keys: one command for their fences, one for themselves',
    call: (cache) => cache.del(KEY, SIBLING, 'cost:openai:gpt-5'),
    requests: 1,
    billed: { DEL: 2 },
  },
  {
    name: 'a loader that fails: the lease is given back',
    prepare: ({ cache }) => cache.begin(KEY),
    call: (cache) => cache.getOrSet(KEY, () => Promise.reject(new Error('away'))).catch(() => null),
    requests: 3,
    billed: { MGET: 1, SET: 1, DEL: 1 },
  },
  {
    name: 'get, load, set',
    prepare: ({ cache }) => cache.begin(KEY),
    call: async (cache) => {
      await cache.get(KEY);
      await cache.set(KEY, 1);
    },
    requests: 2,
    billed: { MGET: 1, SET: 1 },
  },
  {
    name: 'begin, load, set',
    prepare: ({ cache }) => cache.begin(KEY),
    call: async (cache) => cache.set(KEY, 1, 60, await cache.begin(KEY)),
    requests: 2,
    billed: { MGET: 1, SET: 1 },
  },
  {
    name: 'set alone',
    prepare: ({ cache }) => cache.begin(KEY),
    call: (cache) => cache.set(KEY, 1),
    requests: 2,
    billed: { MGET: 1, SET: 1 },
  },
  {
    name: 'delPattern of a group',
    prepare: ({ cache }) => cache.getOrSet(KEY, load),
    call: (cache) => cache.delPattern('quota:org-1:*'),
    requests: 1,
    billed: { DEL: 1 },
  },
];

it.each(cases)('$name', async ({ prepare, call, requests, billed }) => {
  const { gateway } = upstash;
  const support = new Support({ url: gateway.url, token: TOKEN, countsUrl: '' });
  const background: Promise<void>[] = [];
  const runtime = { ...systemRuntime, background: (work: Promise<void>) => background.push(work) };
  const cache = await support.withWorker({ runtime });
  await prepare?.({ cache, support });
  const before = gateway.commandsByName();
  const asked = gateway.requestCount();
  await call(cache);
  // What is sent in the background is billed too.
  for (const work of background) await work;
  const spent = Object.entries(gateway.commandsByName())
    .map(([name, count]) => [name, count - (before[name] ?? 0)] as const)
    .filter(([, more]) => more > 0);
  expect({ billed: Object.fromEntries(spent), requests: gateway.requestCount() - asked }).toEqual({
    billed,
    requests,
  });
});
