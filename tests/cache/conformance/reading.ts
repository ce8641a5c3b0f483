/** Reading and storing: values, absence, what each operation costs, time to live. */
import assert from 'node:assert/strict';
import { type Check, QUOTA } from './support.ts';

const OTHER = 'quota:org-1:openai:gpt-4';

export const reading: Check[] = [
  {
    name: 'a hit costs one command and one round trip; a miss three commands in as many round trips, and one more for each fence',
    run: async (support) => {
      const cache = await support.withWorker();
      const read = () => cache.getOrSet(QUOTA, () => ({ limit: 5 }));
      const cold = await support.counted(read);
      assert.deepEqual([cold.requests, cold.commands, cold.result], [3, 5, { limit: 5 }]);
      const hit = await support.counted(read);
      assert.deepEqual([hit.requests, hit.commands, hit.result], [1, 1, { limit: 5 }]);
      const warm = await support.counted(() => cache.getOrSet(OTHER, () => 4));
      assert.deepEqual([warm.requests, warm.commands], [3, 3]);
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
    name: 'entries expire a little before their TTL, entity fences long after, type fences never',
    run: async (support) => {
      const cache = await support.withWorker();
      const ttl = async (name: string) => Number(await support.redis('TTL', support.key(name)));
      await cache.getOrSet(QUOTA, () => 1, 100);
      const entry = await ttl(QUOTA);
      assert.ok(entry > 85 && entry <= 100, String(entry));
      // Eight times the entry's time.
      const entity = await ttl('fence:quota:org-1');
      assert.ok(entity >= 798 && entity <= 800, String(entity));
      assert.equal(await ttl('fence:quota'), -1);
      // An entry that would outlive the fence that it found renews it, and a shorter one leaves it.
      const long = await support.counted(() => cache.getOrSet(OTHER, () => 1, 1_000));
      assert.equal(long.commands, 4);
      assert.ok((await ttl('fence:quota:org-1')) >= 7_999);
      const short = await support.counted(() => cache.getOrSet('quota:org-1:openai:gpt-3', () => 1, 5));
      assert.equal(short.commands, 3);
      assert.ok((await ttl('fence:quota:org-1')) >= 7_998);
      // Limits: ten minutes and 30 days, but never shorter than the entry.
      for (const [org, seconds, lives] of [
        ['short', 1, 600],
        ['long', 10 * 86_400, 30 * 86_400],
        ['longest', 60 * 86_400, 66 * 86_400],
      ] as const) {
        await cache.getOrSet(`quota:${org}:a:b`, () => 1, seconds);
        const found = await ttl(`fence:quota:${org}`);
        assert.ok(found >= lives - 2 && found <= lives, `${org}: ${found}`);
      }
    },
  },
  {
    name: 'a fence is renewed when half of its life is over, and then not again by the same isolate',
    run: async (support) => {
      const cache = await support.withWorker();
      const fence = support.key('fence:quota:org-1');
      let model = 0;
      const renews = async (on = cache) => {
        await support.redis('EXPIRE', fence, 700);
        await on.getOrSet(`quota:org-1:openai:m${model++}`, () => 1, 100);
        return Number(await support.redis('TTL', fence)) > 700;
      };
      await cache.begin('quota:org-1:a:b');
      await support.redis('DEL', fence);
      await cache.getOrSet('quota:org-1:a:b', () => 1, 100);
      assert.equal(await renews(), false);
      support.ahead += 398_000;
      assert.equal(await renews(), false);
      support.ahead += 4_000;
      assert.deepEqual([await renews(), await renews()], [true, false]);
      support.ahead += 402_000;
      assert.deepEqual([await renews(), await renews()], [true, false]);
      // Another isolate knows the value alone, and so does one whose clock is behind.
      const other = support.isolate();
      assert.deepEqual([await renews(other), await renews(other)], [true, false]);
      support.ahead -= 900_000;
      const behind = support.isolate();
      assert.deepEqual([await renews(behind), await renews(behind)], [true, false]);
      // A fence of a former version says nothing about its time.
      await support.redis('SET', fence, 'former', 'EX', 60);
      const after = support.isolate();
      assert.deepEqual([await renews(after), await renews(after)], [true, false]);
    },
  },
  {
    name: 'nothing of an undeclared type lives for ever',
    run: async (support) => {
      const cache = await support.withWorker();
      const ttl = async (name: string) => Number(await support.redis('TTL', support.key(name)));
      const cold = await support.counted(() => cache.getOrSet('4f1c:profile', () => 1, 100));
      assert.equal(cold.commands, 5);
      await cache.set('solo', 1, 100);
      for (const name of ['fence:4f1c', 'fence:4f1c:profile', 'fence:solo']) {
        assert.ok((await ttl(name)) >= 798 && (await ttl(name)) <= 800, name);
      }
      const other = await support.counted(() =>
        cache.getOrSet('4f1c:settings', () => 1, 1_000, { staleIfError: 1_000 }),
      );
      // Its own fence is new, and the type's would be over before the entry.
      assert.equal(other.commands, 5);
      assert.ok((await ttl('fence:4f1c')) >= 15_999);
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
