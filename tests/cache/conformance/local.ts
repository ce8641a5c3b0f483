/** The first level in process: what it saves, how old its answers may be, and what empties it. */
import assert from 'node:assert/strict';
import { RedisFailure } from '../../../supabase/functions/_shared/cache/redis/failure.ts';
import type { Connection } from '../../../supabase/functions/_shared/cache/redis/upstash.ts';
import type { Cache } from '../../../supabase/functions/_shared/cache.ts';
import { invalidate } from './invalidating.ts';
import { type Check, gate, QUOTA, type Support } from './support.ts';

const OTHER = 'quota:org-1:openai:gpt-4';
const MEMBER = 'member:org-1:u1';
// The longest there is: the clocks of a check go on while it runs.
const local = { ttl: 60_000, max: 1_000 };

/** Stands for another isolate: what this one does not know of. */
const stored = (support: Support, value: string, key = QUOTA) =>
  support.isolate().getOrSet(key, () => value, { fresh: true });

const read = (cache: Cache, key = QUOTA) => cache.getOrSet(key, () => 'loaded');

/** An isolate whose next MGET stops after Redis has answered it, until it is let go. */
function stopping(support: Support): {
  connection: Connection;
  stop: () => { sent: Promise<void>; go: () => void };
} {
  const connection = support.connection();
  let next: { sent: ReturnType<typeof gate<void>>; go: ReturnType<typeof gate<void>> } | undefined;
  return {
    connection: {
      ...connection,
      getMany: async (keys) => {
        const stop = next;
        next = undefined;
        const values = await connection.getMany(keys);
        stop?.sent.open();
        await stop?.go.opened;
        return values;
      },
    },
    stop: () => {
      const [sent, go] = [gate(), gate()];
      next = { sent, go };
      return { sent: sent.opened, go: () => go.open() };
    },
  };
}

export const localLevel: Check[] = [
  {
    name: 'local: a key that was read is answered without a command, by every way to read, until its time is over',
    run: async (support) => {
      const cache = await support.withWorker({ local });
      await stored(support, 'row');
      assert.equal(await read(cache), 'row');
      const outcomes: string[] = [];
      const spent = await support.counted(async () => {
        support.ahead = support.lasting = 30_000;
        const onOutcome = (_: string, outcome: string) => outcomes.push(outcome);
        assert.equal(await cache.getOrSet(QUOTA, () => 'x', { onOutcome }), 'row');
        assert.equal(await cache.get(QUOTA), 'row');
        assert.deepEqual(await cache.lookup(QUOTA), { hit: true, value: 'row' });
        assert.deepEqual([...(await cache.getMany([QUOTA]))], [[QUOTA, 'row']]);
        assert.deepEqual([...(await cache.getOrSetMany([QUOTA], () => ({})))], [[QUOTA, 'row']]);
      });
      assert.deepEqual([spent.commands, outcomes], [0, ['hit']]);
      assert.equal(cache.stats().types.quota?.hits, 6);
      await stored(support, 'next');
      assert.equal(await read(cache), 'row');
      support.ahead = support.lasting = 60_001;
      assert.equal(await read(cache), 'next');
    },
  },
  {
    name: 'local: an answer is as old as either clock says',
    run: async (support) => {
      for (const clock of ['ahead', 'lasting'] as const) {
        const cache = await support.withWorker({ local });
        await stored(support, 'old');
        assert.equal(await read(cache), 'old');
        await stored(support, 'new');
        assert.equal(await read(cache), 'old');
        support[clock] += 60_001;
        // The other clock stands, or was set back.
        if (clock === 'lasting') support.ahead -= 5_000;
        assert.equal(await read(cache), 'new', clock);
      }
    },
  },
  {
    name: 'local: a load does not fill it, nor what stores by hand',
    run: async (support) => {
      const cache = await support.withWorker({ local });
      const store: (() => Promise<unknown>)[] = [
        () => read(cache),
        () => cache.getOrSet(QUOTA, () => 'loaded', { fresh: true }),
        () => cache.set(QUOTA, 'loaded'),
      ];
      for (const fill of store) {
        await cache.del(QUOTA);
        support.lasting += 30_001;
        await fill();
        await invalidate(support, QUOTA);
        assert.equal(await cache.get(QUOTA), null);
      }
    },
  },
  {
    name: 'local: each caller judges by its own options, dependencies and value',
    run: async (support) => {
      const cache = await support.withWorker({ local, degradedMaxAge: 60 });
      const dependsOn = ['user:u1:*'];
      await cache.getOrSet('report:1', () => ['row'], { dependsOn });
      await cache.getOrSet('report:1', () => ['x'], { dependsOn });
      const [one, two] = [
        await cache.getOrSet('report:1', () => ['x'], { dependsOn }),
        await cache.getOrSet('report:1', () => ['x'], { dependsOn }),
      ];
      one.push('changed by its caller');
      assert.deepEqual(two, ['row']);
      assert.equal(await cache.get('report:1'), null);
      assert.deepEqual(await cache.getOrSet('report:1', () => ['own'], {}), ['own']);

      // Without a worker the age of the entry counts, for each caller.
      await support.redis('DEL', support.key('fencepost:heartbeat'));
      await stored(support, 'degraded');
      support.ahead += 20_000;
      assert.equal(await read(cache), 'degraded');
      assert.equal((await support.counted(() => read(cache))).commands, 0);
      assert.equal(await cache.getOrSet(QUOTA, () => 'strict', { degradedMaxAge: 10 }), 'strict');
      // Past its time an entry is no answer of this level.
      await support.heartbeat('epoch-2');
      const stale = { ttl: '100ms', staleIfError: 60 } as const;
      await cache.getOrSet(OTHER, () => 'early', stale);
      await cache.getOrSet(OTHER, () => 'x', stale);
      support.ahead += 101;
      assert.equal(await cache.getOrSet(OTHER, () => 'late', stale), 'late');
    },
  },
  {
    name: 'local: nothing is answered past its TTL, in Redis or by the clocks, absence included',
    run: async (support) => {
      const cache = await support.withWorker({ local });
      const writer = support.isolate();
      for (const clock of ['ahead', 'lasting'] as const) {
        for (const [value, options] of [
          ['short', { ttl: '9s' }],
          [null, { negativeTtl: '9s' }],
          ['short', { ttl: '9s', staleWhileRevalidate: 600 }],
        ] as const) {
          await writer.getOrSet<unknown>(QUOTA, () => value, { ...options, fresh: true });
          const answer = () => cache.getOrSet<unknown>(QUOTA, () => 'next', { ttl: 60 });
          assert.equal(await answer(), value);
          assert.equal((await support.counted(answer)).commands, 0);
          await support.redis('DEL', support.key(QUOTA));
          support[clock] += 9_001;
          assert.equal(await answer(), 'next', clock);
        }
      }
      // An entry of an earlier version does not say when it ends.
      const entry = JSON.parse((await support.redis('GET', support.key(QUOTA))) as string);
      await support.redis('SET', support.key(QUOTA), JSON.stringify({ ...entry, l: undefined }));
      const reader = support.isolate({ local });
      assert.equal(await read(reader), 'next');
      assert.equal((await support.counted(() => read(reader))).commands, 1);
    },
  },
  {
    name: 'local: what grants access is asked for each time',
    run: async (support) => {
      const cache = await support.withWorker({ local });
      for (const [key, options] of [
        [MEMBER, {}],
        ['report:2', { dependsOn: ['member:org-1:*'] }],
      ] as const) {
        await cache.getOrSet(key, () => 'granted', options);
        const again = () => cache.getOrSet(key, () => 'revoked', options);
        assert.equal(await again(), 'granted');
        assert.equal((await support.counted(again)).commands, 1);
        await invalidate(support, MEMBER);
        assert.equal(await again(), 'revoked');
      }
    },
  },
  {
    name: 'local: own deletions and stores empty it, also of what an MGET brings that was sent before their reply',
    run: async (support) => {
      const { connection, stop } = stopping(support);
      const cache = await support.withWorker({ local, connection });
      let epoch = 2;
      const changes: Record<string, () => Promise<unknown>> = {
        del: () => cache.del(QUOTA),
        'del of another key of the entity': () => cache.del(OTHER),
        group: () => cache.delPattern('quota:org-1:*'),
        everything: async () => {
          await cache.delPattern('*');
          await support.heartbeat(`epoch-${epoch++}`);
        },
        sweep: () => cache.delPattern('quota:*:openai:*'),
        fresh: () => cache.getOrSet(QUOTA, () => 'new', { fresh: true }),
        'fresh whose value is not kept': async () => {
          await cache.getOrSet<unknown>(QUOTA, () => new Date(0), { fresh: true });
        },
        'set with a token': async () => cache.set(QUOTA, 'new', 60, await support.isolate().begin(QUOTA)),
      };
      for (const [name, change] of Object.entries(changes)) {
        await cache.del(OTHER);
        await stored(support, 'old');
        assert.equal(await read(cache), 'old');
        assert.equal((await support.counted(() => read(cache))).commands, 0, name);
        await change();
        const value = await cache.getOrSet(QUOTA, () => 'new');
        assert.equal(value, 'new', name);
        // The same with an MGET on its way.
        await cache.del(OTHER);
        await stored(support, 'old');
        const { sent, go } = stop();
        const slow = cache.getOrSet(QUOTA, () => 'x');
        await sent;
        await change();
        go();
        assert.equal(await slow, 'old', name);
        assert.equal(await cache.getOrSet(QUOTA, () => 'new'), 'new', `${name}, late`);
      }
    },
  },
  {
    name: 'local: what is read between a deletion or a store and its reply is not answered afterwards',
    run: async (support) => {
      const changes: [(cache: Cache) => Promise<unknown>, unknown][] = [
        [(cache) => cache.del(QUOTA), null],
        [(cache) => cache.set(QUOTA, 'new'), 'new'],
        [(cache) => cache.getOrSet(QUOTA, () => 'new', { fresh: true }), 'new'],
      ];
      for (const [change, after] of changes) {
        const connection = support.connection();
        const [asked, go] = [gate(), gate()];
        const write: Connection['write'] = async (writes) => {
          asked.open();
          await go.opened;
          return connection.write(writes);
        };
        const cache = await support.withWorker({ local, connection: { ...connection, write } });
        await stored(support, 'old');
        const changed = change(cache);
        await asked.opened;
        assert.equal(await cache.get(QUOTA), 'old');
        go.open();
        await changed;
        assert.equal(await cache.get(QUOTA), after);
      }
    },
  },
  {
    name: 'local: its time is counted from before the read was sent',
    run: async (support) => {
      const { connection, stop } = stopping(support);
      const cache = await support.withWorker({ local, connection });
      for (const clock of ['ahead', 'lasting'] as const) {
        await stored(support, 'old');
        const { sent, go } = stop();
        const slow = read(cache);
        await sent;
        support[clock] += 40_000;
        go();
        assert.equal(await slow, 'old');
        await stored(support, 'new');
        support[clock] += 20_001;
        assert.equal(await read(cache), 'new', clock);
        support[clock] += 60_001;
      }
    },
  },
  {
    name: 'local: what an MGET shows of a key ends what an earlier one showed, a miss included',
    run: async (support) => {
      const cache = await support.withWorker({ local });
      await stored(support, 'old');
      assert.equal(await read(cache), 'old');
      await stored(support, 'new');
      // With other dependencies it is a miss, for which Redis is asked.
      const failing = () => Promise.reject(new Error('away'));
      await assert.rejects(cache.getOrSet(QUOTA, failing, { dependsOn: ['user:u1:*'] }), { message: 'away' });
      assert.equal(await read(cache), 'new');
    },
  },
  {
    name: 'local: fresh ends an answer while Redis is away too, though it joins a load of the same moment',
    run: async (support) => {
      const connection = support.connection();
      let away = false;
      const getMany: Connection['getMany'] = async (keys) => {
        if (away) throw new RedisFailure('unreachable', { isReply: false });
        return connection.getMany(keys);
      };
      const cache = await support.withWorker({ local, connection: { ...connection, getMany } });
      await stored(support, 'old');
      assert.equal(await read(cache), 'old');
      away = true;
      let loads = 0;
      const load = async () => `new ${++loads}`;
      const dependsOn = ['user:u1:*'];
      const answers = [
        cache.getOrSet(QUOTA, load, { dependsOn }),
        cache.getOrSet(QUOTA, load, { dependsOn, fresh: true }),
      ];
      assert.deepEqual(await Promise.all(answers), ['new 1', 'new 1']);
      assert.equal(await read(cache), 'loaded');
    },
  },
  {
    name: 'local: an MGET that was sent later is not overruled by an earlier one',
    run: async (support) => {
      const { connection, stop } = stopping(support);
      const cache = await support.withWorker({ local, connection });
      await stored(support, 'old');
      const { sent, go } = stop();
      const slow = cache.get(QUOTA);
      await sent;
      await stored(support, 'new');
      assert.equal(await cache.get(QUOTA), 'new');
      go();
      assert.equal(await slow, 'old');
      assert.equal((await support.counted(() => cache.get(QUOTA))).result, 'new');
      // Nor does it bring fences back that the later one saw replaced: set stays honest.
      support.ahead += 60_001;
      const second = stop();
      const late = cache.get(QUOTA);
      await second.sent;
      await invalidate(support, QUOTA);
      assert.equal(await cache.get(QUOTA), null);
      second.go();
      assert.equal(await late, 'new');
      assert.equal(await cache.get(QUOTA), null);
    },
  },
  {
    name: 'local: a get that it answers makes a set as safe as any other',
    run: async (support) => {
      const cache = await support.withWorker({ local });
      await stored(support, 'old');
      await read(cache);
      assert.equal(await cache.get(QUOTA), 'old');
      await invalidate(support, QUOTA);
      await stored(support, 'good');
      assert.equal(await cache.set(QUOTA, 'old'), false);
      assert.deepEqual(await support.isolate().lookup(QUOTA), { hit: true, value: 'good' });
    },
  },
  {
    name: 'local: no more keys than max',
    run: async (support) => {
      const cache = await support.withWorker({ local: { ttl: 60_000, max: 2 } });
      const keys = ['own:1', 'own:2', 'own:3'];
      for (const key of [...keys, ...keys]) await read(cache, key);
      assert.equal((await support.counted(() => read(cache, 'own:1'))).commands, 1);
      assert.equal((await support.counted(() => read(cache, 'own:3'))).commands, 0);
    },
  },
];
