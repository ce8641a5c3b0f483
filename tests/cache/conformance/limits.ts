/** What is refused, what is counted, and what counting costs. */
import assert from 'node:assert/strict';
import type { CacheError } from '../../../supabase/functions/_shared/cache.ts';
import { type Check, eventually, gate, QUOTA } from './support.ts';

const OTHER = 'quota:org-1:openai:gpt-4';

export const limits: Check[] = [
  {
    name: 'values over the limit are not cached, with one warning that names neither key nor value',
    run: async (support) => {
      const cache = await support.withWorker({ maxValueBytes: 1_000 });
      const large = 'é'.repeat(600);
      for (const key of [QUOTA, OTHER]) assert.equal(await cache.getOrSet(key, () => large), large);
      assert.equal(await support.redis('EXISTS', support.key(QUOTA), support.key(OTHER)), 0);
      assert.equal(support.logged.length, 1);
      assert.match(support.logged[0] ?? '', /type quota is larger than 1000 bytes/);
      assert.doesNotMatch(support.logged[0] ?? '', /org-1|é/);
    },
  },
  {
    name: 'values that JSON would change are returned but not cached, with one warning; onError gets the place and the remedy',
    run: async (support) => {
      const errors: CacheError[] = [];
      const cache = await support.withWorker({ onError: (error) => errors.push(error) });
      for (const value of [{ at: new Date(0) }, 5n, new Map([['a', 1]]), new Response('x'), [Number.NaN]]) {
        assert.equal(await cache.getOrSet(QUOTA, () => value), value);
      }
      assert.equal(await support.redis('EXISTS', support.key(QUOTA)), 0);
      assert.deepEqual(new Set(errors.map(({ code }) => code)), new Set(['UNSUPPORTED_VALUE']));
      assert.equal(errors.length, 5);
      assert.match(errors[0]?.message ?? '', /\$\.at is a Date.*toISOString/);
      assert.equal(support.logged.length, 1);
      assert.match(support.logged[0] ?? '', /type quota is not cached/);
      assert.equal(cache.stats().redisErrors, 0);
      // Others of the same batch are cached as ever, and nobody has to wait for a lease.
      const batch = await cache.getOrSetMany([QUOTA, OTHER], async () => ({ [QUOTA]: 5n, [OTHER]: 4 }));
      assert.deepEqual(
        [batch.get(QUOTA), batch.get(OTHER), await cache.getMany([QUOTA, OTHER])],
        [5n, 4, new Map([[OTHER, 4]])],
      );
      await assert.rejects(cache.set(QUOTA, 5n), { code: 'UNSUPPORTED_VALUE' });
    },
  },
  {
    name: 'an answer of supabase-js that holds an error is returned but not cached, and a warning shows throwOnError()',
    run: async (support) => {
      const cache = await support.withWorker();
      const failed = { data: null, error: { code: 'PGRST116', message: 'secret' }, count: null, status: 406 };
      assert.equal(await cache.getOrSet(QUOTA, () => failed), failed);
      const batch = await cache.getOrSetMany([QUOTA, OTHER], () => ({ [QUOTA]: failed, [OTHER]: 4 }));
      assert.equal(batch.get(QUOTA), failed);
      assert.deepEqual(await cache.getMany([QUOTA, OTHER]), new Map<string, unknown>([[OTHER, 4]]));
      await assert.rejects(cache.set(QUOTA, failed), {
        code: 'UNSUPPORTED_VALUE',
        message: /throwOnError\(\)/,
      });
      assert.equal(support.logged.length, 1);
      assert.match(support.logged[0] ?? '', /type quota is not cached: .*supabase-js.*\.throwOnError\(\)/);
      assert.doesNotMatch(support.logged[0] ?? '', /secret|PGRST116/);
      const found = { data: [1], error: null };
      await cache.getOrSet(QUOTA, () => found);
      assert.deepEqual(await cache.get(QUOTA), found);
    },
  },
  {
    name: 'what cannot be cached cannot be shared either: every caller loads for itself',
    run: async (support) => {
      const cache = await support.withWorker();
      let loads = 0;
      const readers = Array.from({ length: 5 }, async () => {
        const response = await cache.getOrSet(QUOTA, () => new Response(`row ${++loads}`));
        return response.text();
      });
      assert.deepEqual(new Set(await Promise.all(readers)).size, 5);
      assert.equal(loads, 5);
    },
  },
  {
    name: 'a value that throws when it is read, copied or written is returned to every caller, and not cached',
    run: async (support) => {
      const hidden = Object.defineProperty({}, 'toJSON', { value: () => assert.fail('written') });
      const values: (() => object)[] = [
        () => new Proxy({ a: 1 }, {}),
        () => Object.assign([1], { refetch: () => 1 }),
        () => Object.defineProperty({}, 'lazy', { enumerable: true, get: () => assert.fail('looked at') }),
        () => hidden,
      ];
      const cache = await support.withWorker();
      for (const [index, make] of values.entries()) {
        const row = gate();
        const load = async () => {
          await row.opened;
          return make();
        };
        const readers = [1, 2].map(() => cache.getOrSet(`strange:${index}`, load));
        row.open();
        for (const reader of readers) assert.equal(typeof (await reader), 'object');
      }
      assert.deepEqual(await cache.lookup('strange:0'), { hit: true, value: { a: 1 } });
      assert.equal((await cache.getMany(['strange:1', 'strange:2', 'strange:3'])).size, 0);
    },
  },
  {
    name: 'statistics, hooks and their cost',
    run: async (support) => {
      // They are counted by the hour, and none ends within this check.
      support.ahead = 3_600_000 - (Date.now() % 3_600_000);
      const events: string[] = [];
      const cache = await support.withWorker({
        onHit: ({ type, stale }) => events.push(`hit ${type} ${stale}`),
        onMiss: ({ type }) => {
          events.push(`miss ${type}`);
          throw new Error('telemetry is down');
        },
      });
      await cache.getOrSet(QUOTA, () => 1);
      await cache.getOrSet(QUOTA, () => 1);
      await cache.get('elsewhere:1');
      assert.deepEqual(events, ['miss quota', 'hit quota false', 'miss other']);
      const { quota, other } = cache.stats().types;
      assert.deepEqual(
        [quota?.hits, quota?.misses, quota?.loads, quota?.errors, quota?.hitRate],
        [1, 1, 1, 0, 0.5],
      );
      assert.deepEqual([quota?.hitRateTarget, other?.misses, cache.stats().redisErrors], [0.8, 1, 0]);

      const before = cache.stats().commands;
      for (let read = 0; read < 600; read++) {
        if (read % 300 === 299) support.ahead += 10_001;
        await cache.get(QUOTA);
      }
      const pattern = `${support.prefix}fencepost:stats:*`;
      const stored = async () => (await support.redis('KEYS', pattern)) as string[];
      await eventually(async () => (await stored()).length === 1, 'statistics are written');
      const [hash = ''] = await stored();
      const [line = ''] = (await support.redis('HVALS', hash)) as string[];
      assert.ok(JSON.parse(line).quota.hits >= 250, line);
      assert.ok(Number(await support.redis('TTL', hash)) > 86_400);
      const flushed = cache.stats().commands - before - 600;
      assert.ok(flushed >= 2 && flushed <= 6, `${flushed} commands for 600 reads`);
    },
  },
  {
    name: 'ping gives what a health check needs',
    run: async (support) => {
      const cache = support.isolate();
      const alone = await cache.ping();
      assert.deepEqual([alone.enabled, alone.connected, alone.workerAlive], [true, true, false]);
      await support.heartbeat('epoch-1');
      const health = await cache.ping();
      assert.equal(health.workerAlive, true);
      assert.ok(health.keyCount >= 1 && health.latencyMs !== null);
      // A heartbeat for another epoch vouches for nothing, so readers go by the age.
      await support.redis('SET', support.key('fencepost:epoch'), 'epoch-2');
      assert.equal((await cache.ping()).workerAlive, false);
    },
  },
];
