/** fresh, wrap, times as texts, and the serializer: what calls may ask for beside the usual read. */
import assert from 'node:assert/strict';
import { RedisFailure } from '../../../supabase/functions/_shared/cache/redis/failure.ts';
import type { CacheError, GetOrSetOptions, Serializer } from '../../../supabase/functions/_shared/cache.ts';
import { invalidate } from './invalidating.ts';
import { type Check, eventually, gate, QUOTA } from './support.ts';

const OTHER = 'quota:org-1:openai:gpt-4';

/** As superjson does it: Date, bigint and Map come back as they were, at any depth. */
const serializer: Serializer = {
  stringify: (value) =>
    JSON.stringify(value, function (this: Record<string, unknown>, name, found) {
      const original = this[name];
      if (original instanceof Date) return { $: 'date', of: original.getTime() };
      if (typeof original === 'bigint') return { $: 'bigint', of: String(original) };
      if (original instanceof Map) return { $: 'map', of: [...original] };
      return found as unknown;
    }),
  parse: (text) =>
    JSON.parse(text, (_, found: { $?: string; of?: unknown } | null) => {
      if (found?.$ === 'date') return new Date(found.of as number);
      if (found?.$ === 'bigint') return BigInt(found.of as string);
      return found?.$ === 'map' ? new Map(found.of as [unknown, unknown][]) : found;
    }) as unknown,
};

const row = () => ({ at: new Date(5), used: 2n ** 70n, by: new Map([['a', { on: new Date(6) }]]) });

export const calls: Check[] = [
  {
    name: 'fresh loads and stores whatever is cached, without a lease; everybody reads what it stored',
    run: async (support) => {
      const [cache, other] = [await support.withWorker(), support.isolate()];
      await cache.getOrSet(QUOTA, () => 'old');
      const outcomes: string[] = [];
      const options: GetOrSetOptions = { fresh: true, onOutcome: (_, outcome) => outcomes.push(outcome) };
      const spent = await support.counted(() => cache.getOrSet(QUOTA, () => 'new', options));
      assert.deepEqual([spent.result, spent.commands, spent.requests], ['new', 2, 2]);
      assert.deepEqual(outcomes, ['miss']);
      assert.equal(await other.getOrSet(QUOTA, () => 'x'), 'new');
      // Another isolate's lease is nothing to wait for.
      await support.redis('SET', await support.lease(QUOTA), 'held', 'PX', 60_000);
      assert.equal(await other.getOrSet(QUOTA, () => 'newer', 60, { fresh: true, timeout: 4_000 }), 'newer');
      const many = await cache.getOrSetMany(
        [QUOTA, OTHER],
        (keys) => new Map(keys.map((key) => [key, key])),
        options,
      );
      assert.deepEqual(
        [...many],
        [
          [QUOTA, QUOTA],
          [OTHER, OTHER],
        ],
      );
      assert.deepEqual([...(await other.getMany([QUOTA, OTHER]))], [...many]);
    },
  },
  {
    name: 'fresh joins no load that has begun, and what was invalidated meanwhile is not readable',
    run: async (support) => {
      const cache = await support.withWorker();
      const [early, started] = [gate<string>(), gate()];
      const before = cache.getOrSet(QUOTA, () => {
        started.open();
        return early.opened;
      });
      await started.opened;
      // A caller that joined would load too, but only when it has waited for the other load for half a minute.
      let loads = 0;
      const renewed = cache.getOrSet(QUOTA, () => `new ${++loads}`, { fresh: true });
      await eventually(async () => loads === 1, 'fresh loads beside the load that has begun');
      assert.equal(await renewed, 'new 1');
      const [slow, begun] = [gate<string>(), gate()];
      const fresh = cache.getOrSet(
        QUOTA,
        () => {
          begun.open();
          return slow.opened;
        },
        { fresh: true },
      );
      await begun.opened;
      assert.equal(await cache.getOrSet(QUOTA, () => 'newer', { fresh: true }), 'newer');
      await invalidate(support, QUOTA);
      slow.open('older');
      early.open('oldest');
      assert.deepEqual(await Promise.all([before, fresh]), ['oldest', 'older']);
      assert.equal(await cache.get(QUOTA), null);
    },
  },
  {
    name: 'fresh deletes the entry when its value is not kept, and leaves it when the loader fails',
    run: async (support) => {
      const connection = support.connection();
      const refuses = {
        ...connection,
        write: async () => [new RedisFailure('memory-full', { isReply: true })],
      };
      const [cache, refusing] = [
        await support.withWorker({ maxValueBytes: 1_000 }),
        support.isolate({
          connection: {
            ...refuses,
            write: async (writes) =>
              writes.every(({ op }) => op === 'put') ? refuses.write() : connection.write(writes),
          },
        }),
      ];
      const lookedUp = () => support.isolate().lookup(QUOTA);
      const unkept: [unknown, GetOrSetOptions, typeof cache][] = [
        [1, { ttl: 0 }, cache],
        [null, { negativeTtl: 0 }, cache],
        [undefined, { negativeTtl: 0 }, cache],
        [new Date(0), {}, cache],
        ['x'.repeat(2_000), {}, cache],
        [1, {}, refusing],
      ];
      for (const [value, options, on] of unkept) {
        await cache.getOrSet(QUOTA, () => 'old');
        assert.deepEqual(await on.getOrSet<unknown>(QUOTA, () => value, { ...options, fresh: true }), value);
        assert.deepEqual(await lookedUp(), { hit: false }, `${String(value)} ${JSON.stringify(options)}`);
      }
      await cache.getOrSet(QUOTA, () => 'old');
      await assert.rejects(
        cache.getOrSet(QUOTA, () => Promise.reject(new Error('away')), { fresh: true }),
        {
          message: 'away',
        },
      );
      assert.deepEqual(await lookedUp(), { hit: true, value: 'old' });
    },
  },
  {
    name: 'a time may be a text',
    run: async (support) => {
      const cache = await support.withWorker();
      const lives = async () => Number(await support.redis('PTTL', support.key(QUOTA)));
      for (const [text, most] of [
        ['1500ms', 1_500],
        ['90s', 90_000],
        ['5m', 300_000],
        ['1.5h', 5_400_000],
        ['2d', 172_800_000],
      ] as const) {
        for (const store of [
          () => cache.getOrSet(QUOTA, () => 1, { ttl: text, fresh: true }),
          () => cache.getOrSet(QUOTA, () => 1, text, { fresh: true }),
          () => cache.getOrSet(QUOTA, () => null, { negativeTtl: text, fresh: true }),
          () => cache.set(QUOTA, 1, text),
        ]) {
          await store();
          const left = await lives();
          assert.ok(left > most * 0.9 - 1_000 && left <= most, `${text}: ${left}`);
        }
      }
      const types = { mine: { key: 'mine:{id}', entity: 2, ttl: '90s' } } as const;
      await support.isolate({ types }).getOrSet('mine:1', () => 1);
      const typed = Number(await support.redis('PTTL', support.key('mine:1')));
      assert.ok(typed > 80_000 && typed <= 90_000, String(typed));
      for (const text of ['', '5', '5 m', '-5m', '5M', '5min', 'm', '1e3s', '5m ', '9999999d', 'Infinitys']) {
        const wrong = cache.getOrSet(QUOTA, () => assert.fail('loaded'), { ttl: text as '5m' });
        await assert.rejects(wrong, { code: 'INVALID_CONFIGURATION', message: /ttl .* such as '30s'/ }, text);
      }
    },
  },
  {
    name: 'wrap caches the answers of a function under the keys that its arguments make',
    run: async (support) => {
      const cache = await support.withWorker();
      const asked: string[] = [];
      const priceOf = cache.wrap(
        async (provider: string, model: string) => {
          asked.push(model);
          return `${provider} ${model}`;
        },
        {
          key: (provider, model) => `cost:${provider}:${model}`,
          ttl: '5m',
          dependsOn: (provider) => [`own:${provider}:*`],
        },
      );
      for (const model of ['a', 'b', 'a', 'b'])
        assert.equal(await priceOf('openai', model), `openai ${model}`);
      assert.deepEqual(asked, ['a', 'b']);
      assert.equal((await support.counted(() => priceOf('openai', 'a'))).commands, 1);
      const lives = Number(await support.redis('TTL', support.key('cost:openai:a')));
      assert.ok(lives > 260 && lives <= 300, String(lives));
      await invalidate(support, 'own:openai:x');
      await Promise.all([priceOf('openai', 'a'), priceOf('openai', 'a')]);
      assert.deepEqual(asked, ['a', 'b', 'a']);
      let count = 0;
      const prices = {
        factor: 3,
        of: cache.wrap(
          function (this: { factor: number }, by: number) {
            return this.factor * by;
          },
          { key: (by) => `own:${by}` },
        ),
      };
      assert.equal(await prices.of(2), 6);
      const counted = cache.wrap(() => ++count, { key: 'own:count' });
      assert.deepEqual([await counted(), await counted()], [1, 1]);
      await assert.rejects(counted(...([5] as unknown as [])), { code: 'INVALID_CONFIGURATION' });
      const failing = cache.wrap((_: number) => Promise.reject(new Error('away')), {
        key: (id) => `own:${id}`,
      });
      await assert.rejects(failing(1), { message: 'away' });
    },
  },
  {
    name: 'a serializer keeps what JSON would change, for all ways to read, and each caller gets a value of its own',
    run: async (support) => {
      const [cache, other] = [await support.withWorker({ serializer }), support.isolate({ serializer })];
      const [first, second] = await Promise.all([cache.getOrSet(QUOTA, row), cache.getOrSet(QUOTA, row)]);
      assert.deepEqual([first, second], [row(), row()]);
      assert.notEqual(first.by, second.by);
      assert.deepEqual(await other.getOrSet<unknown>(QUOTA, () => 'x'), row());
      assert.deepEqual(await other.get(QUOTA), row());
      assert.equal(await cache.set(OTHER, row()), true);
      assert.deepEqual([...(await other.getMany([QUOTA, OTHER])).values()], [row(), row()]);
      const stale = { ttl: 0.001, staleIfError: 600 } as const;
      await cache.getOrSet(QUOTA, row, { ...stale, fresh: true });
      support.ahead += 1_000;
      const failing = () => Promise.reject(new Error('away'));
      assert.deepEqual(await other.getOrSet<unknown>(QUOTA, failing, stale), row());
      // Absence is no value, and negativeTtl is about it.
      await cache.getOrSet<unknown>(OTHER, () => undefined, { negativeTtl: 10, fresh: true });
      assert.deepEqual(await other.lookup(OTHER), { hit: true, value: undefined });
      assert.ok(Number(await support.redis('TTL', support.key(OTHER))) <= 10);
      assert.deepEqual(support.logged, []);
    },
  },
  {
    name: 'what a serializer refuses is handed on and not cached; its entries are misses for who cannot read them',
    run: async (support) => {
      const errors: CacheError[] = [];
      const onError = (error: CacheError) => errors.push(error);
      const cache = await support.withWorker({ serializer, onError });
      const refused = { secret: () => 1 };
      assert.equal(await cache.getOrSet(QUOTA, () => refused), refused);
      assert.deepEqual(await cache.lookup(QUOTA), { hit: false });
      assert.deepEqual(
        errors.map(({ code }) => code),
        ['UNSUPPORTED_VALUE'],
      );
      await assert.rejects(cache.set(QUOTA, refused), { code: 'UNSUPPORTED_VALUE' });
      assert.match(
        support.logged.join(),
        /^cache: a value of type quota is not cached: the serializer would change it/,
      );
      assert.doesNotMatch(support.logged.join(), /secret/);
      const failed = { data: null, error: { message: 'away' } };
      assert.equal(await cache.getOrSet(QUOTA, () => failed), failed);
      assert.deepEqual(await cache.lookup(QUOTA), { hit: false });

      const parse = () => {
        throw new Error('another version');
      };
      for (const without of [support.isolate(), support.isolate({ serializer: { ...serializer, parse } })]) {
        await cache.getOrSet(QUOTA, row, { fresh: true });
        assert.deepEqual(await without.lookup(QUOTA), { hit: false });
        assert.equal(await without.getOrSet<unknown>(QUOTA, () => 'loaded'), 'loaded');
      }
      // What was stored without one is read with one.
      await support.isolate().getOrSet(OTHER, () => ({ plain: [1] }));
      assert.deepEqual(await cache.get(OTHER), { plain: [1] });
    },
  },
  {
    name: 'what a serializer would change in silence is not cached, for the first caller as for those who join',
    run: async (support) => {
      class Instance {
        of = 1;
      }
      const cache = await support.withWorker({ serializer });
      const changed: unknown[] = [
        new Response('x'),
        [Promise.resolve(1)],
        new Instance(),
        { at: { call: () => 1 } },
        { [Symbol('s')]: 1 },
        [Symbol('s')],
        new Set([1]),
        [new Error('x')],
        Number.NaN,
        [-0],
        Object.assign([1], { count: 1 }),
        Object.create(null),
      ];
      for (const [index, value] of changed.entries()) {
        const answers = await Promise.all([1, 2].map(() => cache.getOrSet<unknown>(QUOTA, () => value)));
        assert.ok(
          answers.every((answer) => Object.is(answer, value)),
          String(index),
        );
        assert.deepEqual(await cache.lookup(QUOTA), { hit: false }, String(index));
        await assert.rejects(cache.set(OTHER, value), { code: 'UNSUPPORTED_VALUE' });
      }
      // What a serializer knows is kept.
      const knows: Serializer = {
        stringify: (value) => (value instanceof Instance ? 'instance' : serializer.stringify(value)),
        parse: (text) => (text === 'instance' ? new Instance() : serializer.parse(text)),
      };
      const knowing = support.isolate({ serializer: knows });
      await knowing.getOrSet<unknown>(OTHER, () => new Instance(), { fresh: true });
      assert.ok((await knowing.get(OTHER)) instanceof Instance);
      const kept = { left: undefined, list: [new Date(7)] };
      await cache.getOrSet<unknown>(QUOTA, () => kept, { fresh: true });
      assert.deepEqual(await cache.get(QUOTA), { list: [new Date(7)] });
    },
  },
  {
    name: 'an entry of another serializer is a miss, whatever this one would make of it',
    run: async (support) => {
      await support.heartbeat('epoch-1');
      const tagged: Serializer = {
        stringify: (value) => JSON.stringify([value]),
        parse: (text) => (JSON.parse(text) as unknown[])[0],
      };
      let texts = 0;
      const salted: Serializer = {
        stringify: (value) => `${++texts} ${serializer.stringify(value)}`,
        parse: (text) => serializer.parse(text.slice(text.indexOf(' '))),
      };
      const all = [serializer, tagged, JSON, salted];
      for (const writes of all) {
        for (const reads of all) {
          await support.isolate({ serializer: writes }).getOrSet(QUOTA, () => [['x']], { fresh: true });
          const found = await support.isolate({ serializer: reads }).lookup(QUOTA);
          const at = `${all.indexOf(writes)} to ${all.indexOf(reads)}`;
          assert.deepEqual(found, writes === reads ? { hit: true, value: [['x']] } : { hit: false }, at);
        }
      }
    },
  },
  {
    name: 'a serializer that gives promises keeps nothing, and its rejections reach nobody',
    run: async (support) => {
      await support.heartbeat('epoch-1');
      const late = () => Promise.reject(new Error('late'));
      const asynchronous: Serializer[] = [
        { ...serializer, stringify: late as unknown as Serializer['stringify'] },
        { ...serializer, parse: late },
      ];
      for (const wrong of asynchronous) {
        const cache = support.isolate({ serializer: wrong });
        assert.deepEqual(await cache.getOrSet(QUOTA, row), row());
        await assert.rejects(cache.set(QUOTA, row()), { code: 'UNSUPPORTED_VALUE', message: /a promise/ });
        await support.isolate({ serializer }).getOrSet(OTHER, row);
        assert.deepEqual(await cache.lookup(OTHER), { hit: false });
        assert.deepEqual([...(await cache.getMany([OTHER]))], []);
      }
    },
  },
];
