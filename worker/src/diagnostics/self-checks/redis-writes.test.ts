import { beforeEach, describe, expect, it } from 'vitest';
import { UpstashFailure } from '../../redis/errors.ts';
import type { Role } from '../../wakeup/leader-election.ts';
import { RedisWrites } from './redis-writes.ts';

const world = { now: 0, writes: 0, failure: null as UpstashFailure | null, changes: [] as (string | null)[] };
let writes: RedisWrites;

beforeEach(() => {
  Object.assign(world, { now: 0, writes: 0, failure: null, changes: [] });
  writes = new RedisWrites({
    cache: {
      set: async () => {
        world.writes++;
        if (world.failure !== null) throw world.failure;
      },
    },
    onChange: (failure) => world.changes.push(failure?.message ?? null),
    now: () => world.now,
  });
});

const full = new UpstashFailure('UPSTASH_SERVER_ERROR', 'full', 'wait');
const away = new UpstashFailure('UPSTASH_UNREACHABLE', 'away', 'wait');

async function pass(minutes: number, role: Role = 'leading'): Promise<void> {
  for (const end = world.now + minutes * 60_000; world.now < end; world.now += 2_000)
    await writes.check(role);
}

describe('RedisWrites', () => {
  it('costs 2 160 commands in 30 days of leading, and none of following', async () => {
    await pass(30 * 24 * 60);
    expect(world.writes).toBe(2_160);
    await pass(24 * 60, 'following');
    expect(world.writes).toBe(2_160);
    expect(world.changes).toEqual([]);
  });

  it('says once that writes are refused, looks every minute, and says when they are taken again', async () => {
    world.failure = full;
    await pass(10);
    expect(world.writes).toBe(10);
    expect(writes.failure?.message).toBe('full');
    world.failure = null;
    await pass(2);
    expect(world.changes).toEqual(['full', null]);
  });

  it('keeps its verdict while Redis is away, and gives it up when it no longer leads', async () => {
    world.failure = away;
    await pass(2);
    expect(world.changes).toEqual([]);
    world.failure = full;
    await pass(2);
    world.failure = away;
    await pass(2);
    expect(writes.failure?.message).toBe('full');
    await pass(1, 'following');
    expect(world.changes).toEqual(['full', null]);
  });
});
