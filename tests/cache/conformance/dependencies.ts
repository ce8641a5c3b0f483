/** dependsOn: an answer that is made of several things stands behind all of them. */
import assert from 'node:assert/strict';
import type { Cache, GetOrSetOptions } from '../../../supabase/functions/_shared/cache.ts';
import { invalidate } from './invalidating.ts';
import { type Check, gate, QUOTA } from './support.ts';

const REPORT = 'report:7';
const dependsOn = ['quota:org-1:*', 'user:u1:prefs', 'session:s1:state', 'cost:openai:*', 'own:a:b:*'];

const read = (cache: Cache, value = 'new', options: GetOrSetOptions = { dependsOn }) =>
  cache.getOrSet(REPORT, () => value, options);

export const dependencies: Check[] = [
  {
    name: 'a hit with dependencies is one command; any of them ends it, and nothing else does',
    run: async (support) => {
      const cache = await support.withWorker();
      for (const target of [
        ...[QUOTA, 'quota:org-1:*', 'quota:*', 'user:u1:prefs', 'user:u1:*', 'user:*', 'session:s1:state'],
        ...[
          'cost:openai:gpt-5',
          'cost:openai:*',
          'cost:*',
          'own:a:b:c',
          'own:a:b:*',
          'own:a:*',
          'own:*',
          REPORT,
        ],
      ]) {
        await cache.getOrSet(REPORT, () => 'old', 60, { dependsOn });
        const hit = await support.counted(() => read(cache));
        assert.deepEqual([hit.commands, hit.result], [1, 'old'], target);
        await invalidate(support, target);
        const miss = await support.counted(() => read(cache, 'old'));
        assert.deepEqual([miss.commands, miss.requests], [4, 3], target);
        assert.equal(await read(cache), 'old', target);
        await invalidate(support, target);
        assert.equal(await read(cache, 'loaded'), 'loaded', target);
        await cache.del(REPORT);
      }
      await read(cache, 'kept');
      for (const target of [
        'quota:org-2:*',
        'user:u2:prefs',
        'session:s2:state',
        'cost:mistral:*',
        'own:a:c:d',
        'own:b:*',
      ]) {
        await invalidate(support, target);
        assert.equal(await read(cache), 'kept', target);
      }
      await cache.delPattern('quota:*:openai:*');
      assert.equal(await read(cache, 'after the sweep'), 'after the sweep');
    },
  },
  {
    name: 'a load that began before a dependency was invalidated is not readable afterwards',
    run: async (support) => {
      const cache = await support.withWorker();
      const [row, started] = [gate<string>(), gate()];
      const load = () => {
        started.open();
        return row.opened;
      };
      const before = cache.getOrSet(REPORT, load, 60, { dependsOn });
      await started.opened;
      await invalidate(support, QUOTA);
      assert.equal(await read(cache), 'new');
      row.open('old');
      assert.equal(await before, 'old');
      assert.equal(await read(cache), 'new');
    },
  },
  {
    name: 'an answer read without its dependencies, or with others, is a miss, with a warning; their order does not matter',
    run: async (support) => {
      const cache = await support.withWorker();
      await read(cache, 'all');
      assert.equal(await read(cache, 'x', { dependsOn: [...dependsOn, ...dependsOn].toReversed() }), 'all');
      assert.equal(await read(cache, 'x', { dependsOn: [...dependsOn, REPORT] }), 'all');
      assert.deepEqual(support.logged, []);
      assert.equal(await cache.get(REPORT), null);
      assert.deepEqual(await cache.lookup(REPORT), { hit: false });
      assert.equal(await read(cache, 'fewer', { dependsOn: dependsOn.slice(1) }), 'fewer');
      assert.equal(
        await read(cache, 'others', { dependsOn: ['user:u2:*', ...dependsOn.slice(2)] }),
        'others',
      );
      assert.equal(await read(cache, 'none', {}), 'none');
      assert.equal(await read(cache, 'all again'), 'all again');
      assert.equal(support.logged.length, 1);
      assert.match(support.logged[0] ?? '', /type other name different lists in dependsOn/);
      assert.doesNotMatch(support.logged[0] ?? '', /report|u1/);
    },
  },
  {
    name: 'lists that stand for the same fences are one list, because the same writes end their answers',
    run: async (support) => {
      const cache = await support.withWorker();
      const lists = [[QUOTA], ['quota:org-1:*'], ['quota:org-1:a:b', QUOTA, 'quota:org-1:*']];
      for (const stored of lists) {
        await read(cache, 'stored', { dependsOn: stored, fresh: true });
        for (const list of lists) assert.equal(await read(cache, 'x', { dependsOn: list }), 'stored');
      }
      assert.deepEqual(support.logged, []);
      await invalidate(support, 'quota:org-1:c:d');
      for (const list of lists) assert.equal(await read(cache, 'new', { dependsOn: list }), 'new');
    },
  },
  {
    name: 'getOrSetMany has dependencies for each key',
    run: async (support) => {
      const cache = await support.withWorker();
      const wanted = ['report:1', 'report:2'];
      const options = { dependsOn: (key: string) => [`user:${key.slice(7)}:*`] };
      const many = async (value: string) => {
        const load = (missing: readonly string[]) => new Map(missing.map((key) => [key, value]));
        return [...(await cache.getOrSetMany(wanted, load, 60, options)).values()];
      };
      assert.deepEqual(await many('old'), ['old', 'old']);
      const hit = await support.counted(() => many('new'));
      assert.deepEqual([hit.commands, hit.result], [1, ['old', 'old']]);
      await invalidate(support, 'user:2:prefs');
      assert.deepEqual(await many('new'), ['old', 'new']);
      assert.equal(await cache.getOrSet('report:2', () => 'x', 60, { dependsOn: ['user:2:*'] }), 'new');
    },
  },
  {
    name: 'what stands for no fence is refused as a dependency, and so are more than 64 fences',
    run: async (support) => {
      const cache = await support.withWorker();
      const wrong = [
        '',
        '*',
        'quota',
        'quota:*',
        'quota:*:openai:*',
        'quota:org-?',
        ':*',
        'fence:a',
        'a:\0',
        5,
        null,
      ];
      const spent = await support.counted(async () => {
        for (const dependency of wrong) {
          const options = { dependsOn: [dependency as string] };
          await assert.rejects(read(cache, 'x', options), { code: 'INVALID_KEY' }, String(dependency));
        }
        const users = (count: number) => Array.from({ length: count }, (_, user) => `user:${user}:*`);
        for (const list of [users(62), 'user:7:*' as unknown as string[], () => 5 as unknown as string[]]) {
          await assert.rejects(read(cache, 'x', { dependsOn: list }), { code: 'INVALID_CONFIGURATION' });
        }
        await assert.rejects(read(cache, 'x', { ttl: -1 }), { code: 'INVALID_CONFIGURATION' });
        // Its own two, one of the type, and 61.
        return read(cache, 'as many as can be', { dependsOn: users(61) });
      });
      assert.equal(spent.commands, 1 + 64 + 2);
      const hit = await support.counted(() => cache.getOrSet(REPORT, () => 'x', 60, { dependsOn: [] }));
      assert.equal(hit.result, 'x');
    },
  },
  {
    name: 'the strictest of all types counts: how long it lives, and that what grants access is never served late',
    run: async (support) => {
      const cache = await support.withWorker();
      const lives = async (list: string[], ttl?: number) => {
        await cache.del(REPORT);
        await cache.getOrSet(REPORT, () => 1, ttl, { dependsOn: list });
        return Number(await support.redis('PTTL', support.key(REPORT)));
      };
      assert.ok((await lives(['cost:openai:*'], 100_000)) <= 86_400_000);
      assert.ok((await lives(['cost:openai:*', 'quota:org-1:a:b'], 100_000)) <= 300_000);
      assert.ok((await lives(['own:a:b'], 1_000)) > 800_000);
      // A group may hold keys of any type that fits.
      assert.ok((await lives(['session:s1:*'], 100_000)) <= 900_000);
      const options = { dependsOn: ['member:org-1:*'], staleIfError: 600 };
      await cache.getOrSet(REPORT, () => 'granted', 60, options);
      await support.redis('DEL', support.key('fencepost:heartbeat'));
      assert.equal(await cache.getOrSet(REPORT, () => 'looked up', 60, options), 'looked up');
      await support.heartbeat('epoch-1');
      await cache.del(REPORT);
      await cache.getOrSet(REPORT, () => 'granted', 60, options);
      assert.ok(Number(await support.redis('PTTL', support.key(REPORT))) <= 60_000);
    },
  },
];
