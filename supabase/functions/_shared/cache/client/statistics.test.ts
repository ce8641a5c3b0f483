import { describe, expect, it } from 'vitest';
import { sumCommands } from '../protocol/statistics.ts';
import { RedisAccess } from '../redis/redis-access.ts';
import { systemRuntime } from '../redis/runtime.ts';
import type { Connection } from '../redis/upstash.ts';
import type { Write } from '../redis/writes.ts';
import { Statistics } from './statistics.ts';

const TYPES = [{ name: 'quota', hitRate: 0.8 }, { name: 'cost', hitRate: 0.95 }, { name: 'prefs' }];
const START = Date.UTC(2026, 10, 1, 10, 59, 0);

function setUp() {
  const clock = { now: START };
  const writes: Write[] = [];
  const background: Promise<unknown>[] = [];
  const server = {
    fields: new Set<string>(),
    refusing: false,
    settled: () => Promise.all(background),
  };
  const connection: Connection = {
    getMany: async (keys) => keys.map(() => null),
    write: async (sent) => {
      if (server.refusing) throw Object.assign(new Error('refused'), { name: 'UpstashError' });
      writes.push(...sent);
      return sent.map((write) => {
        if (write.op !== 'record') return 1;
        const isNew = !server.fields.has(write.key);
        server.fields.add(write.key);
        return isNew ? 1 : 0;
      });
    },
    writeThenRead: async () => ({ replies: [], values: [] }),
    scan: async () => ({ cursor: '0', keys: [] }),
    health: async () => ({ keyCount: 0, heartbeat: null, epoch: null }),
  };
  const runtime = {
    ...systemRuntime,
    now: () => clock.now,
    background: (work: Promise<unknown>) => {
      background.push(work);
    },
  };
  const access = new RedisAccess(connection, runtime, { log: () => {}, failed: () => {} });
  return { clock, writes, access, server, statistics: new Statistics(runtime, TYPES) };
}

describe('statistics', () => {
  it('are written at most every 10 s, and then only after 250 commands or a minute', async () => {
    const { clock, writes, access, statistics } = setUp();
    const readAndFlush = async (times: number) => {
      for (let time = 0; time < times; time++) {
        statistics.read('quota', 'hit', 1);
        await access.read([`k${time}`]);
        statistics.flushWhenDue(access);
      }
    };
    await readAndFlush(300);
    expect(writes).toEqual([]);
    clock.now += 10_000;
    await readAndFlush(1);
    expect(writes.map(({ op }) => op)).toEqual(['record', 'expire']);
    clock.now += 10_000;
    await readAndFlush(100);
    expect(writes).toHaveLength(2);
    clock.now += 50_000;
    await readAndFlush(1);
    expect(writes.map(({ op }) => op)).toEqual(['record', 'expire', 'record', 'expire']);
  });

  it('are kept by the hour: a new hour begins a new hash at zero', async () => {
    const { clock, writes, access, statistics } = setUp();
    statistics.read('quota', 'miss', 0);
    statistics.load('quota', true, 40);
    clock.now += 60_000;
    statistics.read('quota', 'stale', 2);
    statistics.flushWhenDue(access);
    const [record] = writes;
    expect(record).toMatchObject({ op: 'record', key: 'fencepost:stats:2026-11-01T11' });
    const value = record?.op === 'record' ? record.value : '';
    expect(JSON.parse(value).quota).toMatchObject({ hits: 1, stale: 1, misses: 0, errors: 0, hitMs: 2 });
    // Each type with its target, read or not; keys of no type only once there were any.
    expect(JSON.parse(value)).toMatchObject({ quota: { target: 0.8 }, cost: { target: 0.95 }, prefs: {} });
    expect(JSON.parse(value)).not.toHaveProperty('other');
    expect(statistics.snapshot(5)).toMatchObject({
      commands: 5,
      types: {
        quota: { hits: 1, misses: 1, loads: 1, errors: 1, loadMs: 40, hitRate: 0.5, hitRateTarget: 0.8 },
      },
    });
  });

  it('hold the commands of each hour, their own included', async () => {
    const { clock, writes, access, statistics } = setUp();
    const recorded = () => {
      const record = writes.findLast(({ op }) => op === 'record');
      return record?.op === 'record' ? sumCommands([record.value]) : null;
    };
    const readFor = async (seconds: number) => {
      clock.now += seconds * 1000;
      statistics.read('quota', 'hit', 1);
      await access.read(['key']);
      statistics.flushWhenDue(access);
    };
    await readFor(61);
    // the read, HSET and EXPIRE
    expect(recorded()).toEqual({ readers: 3, worker: 0 });
    await readFor(30);
    await readFor(31);
    expect(recorded()).toEqual({ readers: 6, worker: 0 });
    await readFor(3600);
    expect(recorded()).toEqual({ readers: 3, worker: 0 });
    expect(access.commands).toBe(4 + 5);
  });

  it('give a hash its end again that was lost and written anew, or whose first write failed', async () => {
    const { clock, writes, access, statistics, server } = setUp();
    const flush = async () => {
      writes.length = 0;
      clock.now += 61_000;
      statistics.read('quota', 'hit', 1);
      statistics.flushWhenDue(access);
      await server.settled();
      return writes.map(({ op }) => op);
    };
    clock.now += 60_000;
    expect(await flush()).toEqual(['record', 'expire']);
    expect(await flush()).toEqual(['record']);
    server.fields.clear();
    expect(await flush()).toEqual(['record']);
    expect(await flush()).toEqual(['record', 'expire']);
    expect(await flush()).toEqual(['record']);
    clock.now += 3_600_000;
    server.refusing = true;
    await flush();
    server.refusing = false;
    expect(await flush()).toEqual(['record', 'expire']);
  });
});
