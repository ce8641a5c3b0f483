/** Invalidation against the real Redis: races, groups, epochs, sweeps. */
import assert from 'node:assert/strict';
import { deletionsFor } from '../../../supabase/functions/_shared/cache/protocol/fences.ts';
import { compileGlob, escapeGlob } from '../../../supabase/functions/_shared/cache/protocol/glob.ts';
import { type Check, gate, QUOTA, type Support } from './support.ts';

const OTHER_ORG = 'quota:org-2:openai:gpt-5';
const COST = 'cost:openai:gpt-5';

/** What the worker does for targets. */
export async function invalidate(support: Support, ...targets: string[]): Promise<void> {
  await support.redis(
    'DEL',
    ...targets.flatMap((target) => deletionsFor(target).keys.map((key) => support.key(key))),
  );
}

export const invalidating: Check[] = [
  {
    name: 'globs mean here what they mean in Redis',
    run: async (support) => {
      const texts = ['a', 'ab', 'abc', 'a-c', 'a]', 'a*', 'a\\b', 'b', 'é', 'a:b', 'a^', '[a]'];
      await support.redis('MSET', ...texts.flatMap((text) => [support.key(text), 1]));
      const globs = [
        '*',
        'a?',
        'a[b-d]c',
        'a[^b]*',
        'a\\*',
        '[a-b]',
        'a[c-a]',
        'a[]]',
        '[^a-z]',
        'a\\\\b',
        'a[b',
        'a[\\]]',
        '?:?',
        'a[^^]',
      ];
      for (const glob of globs) {
        const theirs = (await support.redis('KEYS', escapeGlob(support.prefix) + glob)) as string[];
        const ours = texts.filter((text) => compileGlob(glob).matches(text)).map((text) => support.key(text));
        assert.deepEqual(ours.toSorted(), theirs.toSorted(), glob);
      }
    },
  },
  ...['quota:org-1:openai:gpt-5', 'quota:org-1:*', 'quota:*'].map(
    (target): Check => ({
      name: `a load that began before ${target} was invalidated is not readable afterwards`,
      run: async (support) => {
        const cache = await support.withWorker();
        const row = gate<string>();
        const started = gate();
        const reader = cache.getOrSet(QUOTA, () => {
          started.open();
          return row.opened;
        });
        await started.opened;
        await invalidate(support, target);
        row.open('old');
        assert.equal(await reader, 'old');
        assert.equal(await cache.get(QUOTA), null);
        assert.equal(await cache.getOrSet(QUOTA, () => 'new'), 'new');
        assert.equal(await cache.get(QUOTA), 'new');
      },
    }),
  ),
  {
    name: 'an exact target leaves its siblings alone where the entity is the whole key, a group its other groups',
    run: async (support) => {
      const cache = await support.withWorker();
      const all = [QUOTA, OTHER_ORG, COST, 'cost:openai:gpt-4', 'cost:mistral:large'];
      const fill = () =>
        cache.getOrSetMany(all, async (missing) => new Map(missing.map((key) => [key, key])));
      const left = async () => [...(await cache.getMany(all)).keys()];
      await fill();
      await invalidate(support, COST, 'quota:org-1:*');
      assert.deepEqual(await left(), [OTHER_ORG, 'cost:openai:gpt-4', 'cost:mistral:large']);
      await fill();
      await invalidate(support, 'cost:openai:*');
      assert.deepEqual(await left(), [QUOTA, OTHER_ORG, 'cost:mistral:large']);
      await fill();
      await invalidate(support, 'cost:*', 'quota:*');
      assert.deepEqual(await left(), []);
    },
  },
  {
    name: 'a key of no declared type is whole: its siblings stay, and groups of such keys are one DEL',
    run: async (support) => {
      const cache = await support.withWorker();
      const all = ['otp:login:alice', 'otp:login:bob', 'otp:reset:alice'];
      const fill = () =>
        cache.getOrSetMany(all, async (missing) => new Map(missing.map((key) => [key, key])));
      const left = async () => [...(await cache.getMany(all)).keys()];
      await fill();
      await cache.del('otp:login:alice');
      assert.deepEqual(await left(), ['otp:login:bob', 'otp:reset:alice']);
      await fill();
      await invalidate(support, 'otp:login:alice');
      assert.deepEqual(await left(), ['otp:login:bob', 'otp:reset:alice']);
      const group = await support.counted(() => cache.delPattern('otp:login:*'));
      assert.equal(group.commands, 1);
      assert.deepEqual(await left(), ['otp:reset:alice']);
      await fill();
      await cache.delPattern('otp:*');
      assert.deepEqual(await left(), []);
    },
  },
  {
    name: 'what an exact target of no declared type ends beside its key: the keys that it begins with, and their type where it is that',
    run: async (support) => {
      const cache = await support.withWorker();
      const long = `otp${':x'.repeat(32)}`;
      const all = ['otp', 'otp:login', 'otp:login:alice', 'otp:login:alice:at-home', 'otp:login:bob', long];
      const without = (...ended: string[]) => all.filter((key) => !ended.includes(key));
      for (const [target, left] of [
        ['otp:login:alice', without('otp:login', 'otp:login:alice')],
        ['otp:login', without('otp:login')],
        ['otp', []],
        [long, []],
      ] as const) {
        for (const invalidated of [() => cache.del(target), () => invalidate(support, target)]) {
          await cache.getOrSetMany(all, async (missing) => new Map(missing.map((key) => [key, key])));
          await invalidated();
          assert.deepEqual([...(await cache.getMany(all)).keys()], left, target);
        }
      }
    },
  },
  {
    name: 'any number of targets is one request, and a group of any size one command',
    run: async (support) => {
      const cache = await support.withWorker();
      const wanted = Array.from({ length: 300 }, (_, index) => `quota:org-1:p:m${index}`);
      await cache.getOrSetMany(wanted, async (missing) => new Map(missing.map((key) => [key, 1])));
      const group = await support.counted(() => cache.invalidateOrganizationQuotas('org-1'));
      assert.deepEqual([group.commands, group.result], [1, undefined]);
      assert.equal((await cache.getMany(wanted)).size, 0);
      const exact = await support.counted(() => cache.del(...wanted));
      assert.deepEqual([exact.requests, exact.commands, exact.result], [1, 2, 300]);
      const session = await support.counted(() => cache.invalidateSession('s1'));
      assert.deepEqual([session.commands, session.result], [2, 0]);
      assert.equal(await cache.del(), 0);
    },
  },
  {
    name: "delPattern('*') is everything of this cache in one command, and nothing of another prefix",
    run: async (support) => {
      const cache = await support.withWorker();
      const neighbour = support.isolate({ prefix: `${support.prefix}neighbour:` });
      await cache.getOrSet(QUOTA, () => 1);
      for (const name of ['epoch', 'heartbeat']) {
        await support.redis('SET', support.key(`neighbour:fencepost:${name}`), 'theirs');
      }
      await neighbour.getOrSet(QUOTA, () => 2);
      const all = await support.counted(() => cache.delPattern('*'));
      assert.deepEqual([all.commands, all.result], [1, undefined]);
      assert.equal(await cache.get(QUOTA), null);
      assert.equal(await neighbour.get(QUOTA), 2);
      support.ahead += 31_000;
      assert.equal(await neighbour.get(QUOTA), 2);
      assert.equal(await cache.getOrSet(QUOTA, () => 3), 3);
      assert.equal(await cache.get(QUOTA), 3);
    },
  },
  {
    name: 'a sweep deletes what matches, reports it, and touches nothing else',
    run: async (support) => {
      const cache = await support.withWorker();
      const wanted = Array.from({ length: 2_500 }, (_, index) => `quota:org-${index}:openai:gpt-5`);
      await cache.getOrSetMany(wanted, async (missing) => new Map(missing.map((key) => [key, 1])));
      await cache.getOrSet('quota:org-7:mistral:large', () => 1);
      await cache.getOrSet(COST, () => 1);
      const foreign = ['hash:openai:x', 'queue:openai:wait'];
      await support.redis('HSET', support.key(foreign[0] ?? ''), 'a', 1);
      await support.redis('RPUSH', support.key(foreign[1] ?? ''), 1);
      await support.redis('SET', 'elsewhere-quota:org-1:openai:gpt-5', 'theirs');
      const fences = [
        support.key('fence:quota'),
        support.key('fence:cost:openai:gpt-5'),
        support.key('fencepost:epoch'),
        support.key('fencepost:heartbeat'),
      ];

      assert.equal(await cache.delPattern('quota:*:openai:gpt-*'), 2_500);
      assert.equal((await cache.getMany(wanted)).size, 0);
      assert.equal(await cache.get(COST), 1);
      assert.equal(await support.redis('EXISTS', ...fences), 4);
      // Swept along with its entity: unreadable, though it is still there.
      assert.equal(await cache.delPattern('*:mistral:*'), 1);
      assert.equal(await support.redis('EXISTS', ...foreign.map((key) => support.key(key))), 2);
      assert.equal(await support.redis('DEL', 'elsewhere-quota:org-1:openai:gpt-5'), 1);
    },
  },
  {
    name: 'more keys than one DEL takes are deleted in several',
    run: async (support) => {
      const cache = await support.withWorker();
      await cache.set('many:0', 1);
      const wanted = Array.from({ length: 70_000 }, (_, index) => `many:${index}`);
      const gone = await support.counted(() => cache.del(...wanted));
      assert.deepEqual([gone.result, gone.commands], [1, 14]);
      assert.equal(await cache.get('many:0'), null);
      assert.deepEqual(support.logged, []);
    },
  },
  {
    name: 'a sweep also reaches loads in progress',
    run: async (support) => {
      const cache = await support.withWorker();
      const row = gate<string>();
      const started = gate();
      const reader = cache.getOrSet(QUOTA, () => {
        started.open();
        return row.opened;
      });
      await started.opened;
      assert.equal(await cache.delPattern('quota:*:openai:*'), 0);
      row.open('old');
      await reader;
      assert.equal(await cache.get(QUOTA), null);
    },
  },
];
