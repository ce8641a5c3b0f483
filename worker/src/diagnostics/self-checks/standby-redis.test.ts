import { beforeEach, describe, expect, it } from 'vitest';
import { HEARTBEAT_KEY } from '../../../../supabase/functions/_shared/cache/protocol/epoch.ts';
import type { WorkerError } from '../../lib/errors.ts';
import { UpstashFailure } from '../../redis/errors.ts';
import { StandbyRedis } from './standby-redis.ts';

const DAY_MS = 86_400_000;

/** A Redis and a leader in any state. */
const world = {
  now: 0,
  commands: 0,
  away: false,
  heartbeat: 'epoch-1' as string | null,
  leaderAlive: true,
  databaseAway: false,
  changes: [] as (string | null)[],
};
let standby: StandbyRedis;

beforeEach(() => {
  Object.assign(world, {
    now: 0,
    commands: 0,
    away: false,
    heartbeat: 'epoch-1',
    leaderAlive: true,
    databaseAway: false,
    changes: [],
  });
  const command = async <T>(answer: T): Promise<T> => {
    world.commands++;
    if (world.away) throw new UpstashFailure('UPSTASH_UNREACHABLE', 'away', 'wait');
    return answer;
  };
  standby = new StandbyRedis({
    cache: {
      del: () => command(0),
      get: (key) => command(key === HEARTBEAT_KEY ? world.heartbeat : null),
    },
    epoch: async () => {
      if (world.databaseAway) throw new Error('away');
      return 'epoch-1';
    },
    leaderAlive: async () => world.leaderAlive,
    onChange: (failure: WorkerError | null) => world.changes.push(failure?.code ?? null),
    now: () => world.now,
  });
});

async function follow(ms: number): Promise<void> {
  for (const end = world.now + ms; world.now < end; world.now += 2_000) await standby.check('following');
}

describe('StandbyRedis', () => {
  it('costs 1 440 commands in 30 days while all is well', async () => {
    await follow(30 * DAY_MS);
    expect(world.commands).toBe(1_440);
    expect(world.changes).toEqual([]);
  });

  it('finds within an hour that Redis is out of reach, and within a minute that it is back', async () => {
    await follow(10_000);
    world.away = true;
    await follow(3_600_000);
    expect(world.changes).toEqual(['UPSTASH_UNREACHABLE']);
    expect(standby.failure?.code).toBe('UPSTASH_UNREACHABLE');
    world.away = false;
    await follow(62_000);
    expect(world.changes).toEqual(['UPSTASH_UNREACHABLE', null]);
    expect(standby.failure).toBeNull();
  });

  it.each([null, 'epoch-of-another'])(
    'finds a Redis other than the leader’s: its heartbeat is %s',
    async (heartbeat) => {
      world.heartbeat = heartbeat;
      await follow(2_000);
      expect(standby.failure).toBeNull();
      await follow(8_000);
      expect(standby.failure?.code).toBe('STANDBY_REDIS_DIFFERS');
    },
  );

  it('says nothing of Redis while the database cannot be asked', async () => {
    world.databaseAway = true;
    await follow(120_000);
    expect(world.changes).toEqual([]);
    world.databaseAway = false;
    world.heartbeat = 'epoch-of-another';
    await follow(70_000);
    expect(world.changes).toEqual(['STANDBY_REDIS_DIFFERS']);
  });

  it('gives a leader time to write its heartbeat', async () => {
    world.heartbeat = 'epoch-0';
    await follow(2_000);
    world.heartbeat = 'epoch-1';
    await follow(8_000);
    expect(world.changes).toEqual([]);
  });

  it('expects no heartbeat when nobody leads', async () => {
    world.heartbeat = null;
    world.leaderAlive = false;
    await follow(60_000);
    expect(world.changes).toEqual([]);
  });

  it('gives no verdict while it leads, and checks again when it follows', async () => {
    world.away = true;
    await follow(2_000);
    await standby.check('starting');
    expect(standby.failure?.code).toBe('UPSTASH_UNREACHABLE');
    const before = world.commands;
    await standby.check('leading');
    expect(standby.failure).toBeNull();
    expect(world.commands).toBe(before);
    await follow(2_000);
    expect(standby.failure?.code).toBe('UPSTASH_UNREACHABLE');
  });
});
