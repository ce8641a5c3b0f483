/** Reading and storing: values, absence, what each operation costs, time to live. */
import assert from 'node:assert/strict';
import { type Check, QUOTA } from './support.ts';

const OTHER = 'quota:org-1:openai:gpt-4';

export const reading: Check[] = [
  {
    name: 'a hit costs one command and one round trip; a miss three round trips',
    run: async (support) => {
      const cache = await support.withWorker();
      const read = () => cache.getOrSet(QUOTA, () => ({ limit: 5 }));
      const cold = await support.counted(read);
      assert.deepEqual([cold.requests, cold.commands, cold.result], [3, 7, { limit: 5 }]);
      const hit = await support.counted(read);
      assert.deepEqual([hit.requests, hit.commands, hit.result], [1, 1, { limit: 5 }]);
      await support.redis('DEL', support.key(QUOTA));
      const warm = await support.counted(read);
      assert.deepEqual([warm.requests, warm.commands], [3, 6]);
      const plain = await support.counted(() => cache.get(QUOTA));
      assert.deepEqual([plain.requests, plain.commands, plain.result], [1, 1, { limit: 5 }]);
    },
  },
  {
    name: 'reads asked for together are one command',
    run: async (support) => {
      const cache = await support.withWorker();
      await cache.getOrSet(QUOTA, () => 1);
      const fifty = Array.from({ length: 50 }, () => QUOTA);
      const together = await support.counted(() => Promise.all(fifty.map((key) => cache.get(key))));
      assert.equal(together.commands, 1);
      assert.deepEqual(new Set(together.result), new Set([1]));
    },
  },
  {
    name: 'every JSON value comes back as it was',
    run: async (support) => {
      const cache = await support.withWorker();
      const values = [
        '123',
        'null',
        '',
        'OK',
        0,
        false,
        [],
        {},
        { a: [null, { b: 'é😀"\\\n' }] },
        1.5e300,
        '{"v":1}',
      ];
      for (const [index, value] of values.entries()) {
        const key = `anything:${index}`;
        assert.deepEqual(await cache.getOrSet(key, () => value), value);
        assert.deepEqual(await cache.lookup(key), { hit: true, value });
      }
    },
  },
  {
    name: 'null and absence are cached on purpose and are no miss',
    run: async (support) => {
      const cache = await support.withWorker();
      let loads = 0;
      const load = (value: unknown) => () => {
        loads++;
        return value;
      };
      assert.equal(await cache.getOrSet(QUOTA, load(null)), null);
      assert.equal(await cache.getOrSet(QUOTA, load(null)), null);
      assert.equal(await cache.getOrSet(OTHER, load(undefined)), undefined);
      assert.equal(await cache.getOrSet(OTHER, load(undefined)), undefined);
      assert.equal(loads, 2);
      assert.deepEqual(await cache.lookup(QUOTA), { hit: true, value: null });
      assert.deepEqual(await cache.lookup(OTHER), { hit: true, value: undefined });
      assert.deepEqual(await cache.lookup('quota:org-2:a:b'), { hit: false });
      assert.deepEqual(await cache.getMany([QUOTA, 'quota:org-2:a:b']), new Map([[QUOTA, null]]));
    },
  },
  {
    name: 'negativeTtl shortens the time of an absence, and 0 does not store it',
    run: async (support) => {
      const cache = await support.withWorker();
      await cache.getOrSet(QUOTA, () => null, 300, { negativeTtl: 10 });
      const lives = Number(await support.redis('PTTL', support.key(QUOTA)));
      assert.ok(lives > 8_000 && lives <= 10_000, String(lives));
      await cache.getOrSet(OTHER, () => null, 300, { negativeTtl: 0 });
      assert.equal(await support.redis('EXISTS', support.key(OTHER)), 0);
    },
  },
  {
    name: 'entries expire a little before their TTL, entity fences after, type fences never',
    run: async (support) => {
      const cache = await support.withWorker();
      await cache.getOrSet(QUOTA, () => 1, 100);
      const [entry, entity, type] = await Promise.all(
        [QUOTA, 'fence:quota:org-1', 'fence:quota'].map((name) => support.redis('PTTL', support.key(name))),
      );
      assert.ok(Number(entry) > 85_000 && Number(entry) <= 100_000, String(entry));
      assert.ok(Number(entity) >= 99_000 && Number(entity) <= 112_000, String(entity));
      assert.equal(type, -1);
      // A longer-lived entry of the entity renews the fence that it found, and a shorter one leaves it.
      await cache.getOrSet(OTHER, () => 1, 1_000);
      assert.ok(Number(await support.redis('TTL', support.key('fence:quota:org-1'))) >= 999);
      await cache.getOrSet('quota:org-1:openai:gpt-3', () => 1, 1);
      assert.ok(Number(await support.redis('TTL', support.key('fence:quota:org-1'))) >= 999);
    },
  },
  {
    name: 'nothing of an undeclared type lives for ever, and misses renew its fence at no more commands',
    run: async (support) => {
      const cache = await support.withWorker();
      const ttl = async (name: string) => Number(await support.redis('TTL', support.key(name)));
      const cold = await support.counted(() => cache.getOrSet('4f1c:profile', () => 1, 100));
      assert.equal(cold.commands, 7);
      await cache.set('solo', 1, 100);
      for (const name of ['fence:4f1c', 'fence:4f1c:profile', 'fence:solo']) {
        // Made for an entry of 100 s, or by a set for the default time of 300 s.
        assert.ok((await ttl(name)) >= 99 && (await ttl(name)) <= 332, name);
      }
      const other = await support.counted(() =>
        cache.getOrSet('4f1c:settings', () => 1, 1_000, { staleIfError: 1_000 }),
      );
      assert.equal(other.commands, 7);
      assert.ok((await ttl('fence:4f1c')) >= 1_999);
      await support.redis('DEL', support.key('4f1c:profile'));
      const again = await support.counted(() => cache.getOrSet('4f1c:profile', () => 1, 3_000));
      assert.equal(again.commands, 7);
      assert.ok((await ttl('fence:4f1c')) >= 2_999 && (await ttl('fence:4f1c:profile')) >= 2_999);
      // A fence that expires costs a miss; what was stored under it stays unreadable.
      await support.redis('DEL', support.key('fence:4f1c'));
      assert.equal(await cache.get('4f1c:settings'), null);
      assert.equal(await cache.getOrSet('4f1c:settings', () => 2), 2);
      assert.equal(await cache.get('4f1c:profile'), null);
    },
  },
  {
    name: 'the type of a key gives its TTL, and 0 stores nothing',
    run: async (support) => {
      const cache = await support.withWorker();
      await cache.set('workflow:w1:definition', 1);
      await cache.set('unknown:x', 1);
      const ttl = async (key: string) => Number(await support.redis('TTL', support.key(key)));
      assert.ok((await ttl('workflow:w1:definition')) > 3_200);
      const unknown = await ttl('unknown:x');
      assert.ok(unknown > 260 && unknown <= 300, String(unknown));
      assert.equal(await cache.set('unknown:y', 1, 0), false);
      assert.equal(await support.redis('EXISTS', support.key('unknown:y')), 0);
    },
  },
  {
    name: 'many keys of several types: one MGET, one call of the loader for what is missing',
    run: async (support) => {
      const cache = await support.withWorker();
      const wanted = [QUOTA, 'member:org-1:u1', 'cost:openai:gpt-5', QUOTA];
      await cache.getOrSet(QUOTA, () => 'cached');
      const asked: (readonly string[])[] = [];
      const load = async (missing: readonly string[]) => {
        asked.push(missing);
        return { 'member:org-1:u1': 'loaded' };
      };
      const first = await support.counted(() => cache.getOrSetMany(wanted, load));
      assert.deepEqual(asked, [['member:org-1:u1', 'cost:openai:gpt-5']]);
      assert.equal(first.requests, 3);
      const expected = new Map<string, unknown>([
        [QUOTA, 'cached'],
        ['member:org-1:u1', 'loaded'],
        ['cost:openai:gpt-5', undefined],
      ]);
      assert.deepEqual(first.result, expected);
      const again = await support.counted(() => cache.getOrSetMany(wanted, load));
      assert.deepEqual([again.commands, again.result, asked.length], [1, expected, 1]);
      assert.deepEqual(await cache.getOrSetMany([], load), new Map());
    },
  },
  {
    name: 'more keys than fit one read',
    run: async (support) => {
      const cache = await support.withWorker();
      const wanted = Array.from({ length: 700 }, (_, index) => `bulk:e${index}:x`);
      const load = async (missing: readonly string[]) => new Map(missing.map((key) => [key, key.length]));
      assert.equal((await cache.getOrSetMany(wanted, load)).size, 700);
      const again = await support.counted(() => cache.getMany(wanted));
      assert.equal(again.result.size, 700);
      assert.ok(again.commands <= 3, String(again.commands));
    },
  },
  {
    name: 'a foreign value under a key is a miss and is replaced; an evicted fence is only a miss',
    run: async (support) => {
      const cache = await support.withWorker();
      for (const foreign of ['hello', '{"v":9}', '[1]']) {
        await support.redis('SET', support.key(QUOTA), foreign);
        assert.equal(await cache.get(QUOTA), null);
      }
      await cache.getOrSet(QUOTA, () => 1);
      assert.equal(await cache.get(QUOTA), 1);
      await support.redis('DEL', support.key('fence:quota'));
      assert.equal(await cache.get(QUOTA), null);
      assert.equal(await cache.getOrSet(QUOTA, () => 2), 2);
      assert.equal(await cache.get(QUOTA), 2);
    },
  },
];
