import { describe, expect, it } from 'vitest';
import { WorkerError } from '../lib/errors.ts';
import { UpstashFailure } from '../redis/errors.ts';
import { DeliveryHealth, FRESH_MS, STALL_MS } from './health.ts';
import { BEATS_PER_EPOCH_CHECK, Heartbeat } from './heartbeat.ts';

/** Redis's two keys and Postgres's one row, with all calls in order. */
function stage(epochs: { heartbeat?: string; epoch?: string } = {}, { intervalMs = 0 } = {}) {
  const calls: string[] = [];
  const { heartbeat: beats = null, epoch = null } = epochs;
  const state = {
    heartbeat: beats,
    epoch,
    postgres: 'e1',
    confirmed: 0,
    clock: 0,
    failSet: false,
    failPostgres: null,
  } as {
    heartbeat: string | null;
    epoch: string | null;
    postgres: string;
    /** How often the database was told that its epoch is confirmed. */
    confirmed: number;
    clock: number;
    failSet: boolean;
    failPostgres: Error | null;
  };
  const health = new DeliveryHealth(() => state.clock);
  const reasons: string[] = [];
  const heartbeat = new Heartbeat({
    cache: {
      getAndRenew: async (key, seconds) => {
        calls.push(`GETEX ${key} ${seconds}`);
        return state.heartbeat;
      },
      get: async (key) => {
        calls.push(`GET ${key}`);
        return state.epoch;
      },
      setTogether: async (entries) => {
        calls.push(entries.map(({ key, value, seconds }) => `SET ${key} ${value} ${seconds}`).join(', '));
        if (state.failSet) throw new UpstashFailure('UPSTASH_TIMEOUT', 'Late.', 'wait');
        state.epoch = entries[0]?.value ?? null;
        state.heartbeat = entries[1]?.value ?? null;
      },
    },
    outbox: {
      epoch: async () => {
        if (state.failPostgres !== null) throw state.failPostgres;
        return state.postgres;
      },
      newEpoch: async () => {
        if (state.failPostgres !== null) throw state.failPostgres;
        state.postgres = `e${Number(state.postgres.slice(1)) + 1}`;
        calls.push(`Postgres ${state.postgres}`);
        return state.postgres;
      },
      confirmEpoch: async (epoch) => {
        if (state.failPostgres !== null) throw state.failPostgres;
        if (state.postgres === epoch) state.confirmed++;
        return state.postgres === epoch;
      },
    },
    databaseUrl: '',
    health,
    intervalMs,
    onError: () => calls.push('error'),
    onNewEpoch: (reason) => reasons.push(reason),
  });
  const beat = async () => {
    heartbeat.beatIfDue();
    await heartbeat.settled();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { calls, state, health, heartbeat, reasons, beat };
}

const GETEX = 'GETEX fencepost:heartbeat 90';
const GET_EPOCH = 'GET fencepost:epoch';
const start = (epoch: string) => [
  `Postgres ${epoch}`,
  `SET fencepost:epoch ${epoch} null, SET fencepost:heartbeat ${epoch} 90`,
];
const known = { heartbeat: 'e1', epoch: 'e1' };

describe('Heartbeat', () => {
  it('is silent until invalidations health, and again when they stall', async () => {
    const { calls, health, state, beat } = stage(known);
    const beats = () => calls.filter((call) => call === GETEX).length;
    await beat();
    expect(calls).toEqual([]);
    health.emptied();
    await beat();
    expect(beats()).toBe(1);
    state.clock += STALL_MS + 1;
    await beat();
    expect(beats()).toBe(1);
    health.confirmed(FRESH_MS + 1);
    await beat();
    expect(beats(), 'a batch of old rows is a backlog, not health').toBe(1);
    health.confirmed(10);
    await beat();
    expect(beats()).toBe(2);
  });

  it('costs one command when all is well, and one more for every tenth beat; the database hears of each', async () => {
    const { calls, state, health, heartbeat, beat } = stage(known);
    health.emptied();
    for (let beats = 0; beats < 2 * BEATS_PER_EPOCH_CHECK; beats++) await beat();
    const ten = [GETEX, GET_EPOCH, ...Array.from({ length: BEATS_PER_EPOCH_CHECK - 1 }, () => GETEX)];
    expect(calls).toEqual([...ten, ...ten]);
    expect(state.confirmed).toBe(2 * BEATS_PER_EPOCH_CHECK);
    expect(heartbeat.ageMs).not.toBeNull();
    const beatsAMonth = (30 * 86_400) / 30;
    expect(beatsAMonth * (1 + 1 / BEATS_PER_EPOCH_CHECK)).toBeLessThanOrEqual(100_000);
  });

  it('answers a missing heartbeat with a new epoch, in Postgres before Redis, though the epoch is there', async () => {
    const { calls, state, health, reasons, beat } = stage({ epoch: 'e1' });
    health.emptied();
    await beat();
    expect(calls).toEqual([GETEX, ...start('e2')]);
    expect([reasons, state.confirmed]).toEqual([['the heartbeat was missing'], 1]);
  });

  it('answers a foreign value with a new epoch, unless the database has that one', async () => {
    const { calls, state, health, reasons, beat } = stage(known);
    health.emptied();
    await beat();
    state.postgres = 'e7';
    state.heartbeat = 'e7';
    await beat();
    expect(reasons, 'another worker started it').toEqual([]);
    state.heartbeat = 'from a backup';
    await beat();
    expect(calls.slice(3)).toEqual([GETEX, ...start('e8')]);
    expect(reasons).toEqual(['the heartbeat held a foreign epoch']);
  });

  it('answers a lost epoch with a new one, at the latest ten beats later', async () => {
    for (const found of [null, 'made by a reader']) {
      const { calls, state, health, reasons, beat } = stage(known);
      health.emptied();
      await beat();
      state.epoch = found;
      for (let beats = 0; beats < BEATS_PER_EPOCH_CHECK; beats++) await beat();
      expect(calls.slice(-3)).toEqual([GET_EPOCH, ...start('e2')]);
      expect(reasons).toEqual(['the epoch was lost']);
    }
  });

  it('answers an epoch that the database has lost, or replaced, with a new one at the next beat', async () => {
    const { calls, state, health, reasons, beat } = stage(known);
    health.emptied();
    await beat();
    state.postgres = 'e7';
    await beat();
    expect(calls.slice(-3)).toEqual([GETEX, ...start('e8')]);
    expect(reasons).toEqual(['the database has another epoch']);
  });

  it('starts another epoch when it is unknown whether Redis has the last one', async () => {
    const { calls, state, health, beat, heartbeat } = stage();
    health.emptied();
    state.failSet = true;
    await expect(heartbeat.startEpoch('asked for')).rejects.toBeInstanceOf(WorkerError);
    state.failSet = false;
    await beat();
    expect(calls).toEqual([...start('e2'), GETEX, ...start('e3')]);
  });

  it('says of a database that is in the way what it is: no defect', async () => {
    const { state, health, heartbeat, beat } = stage(known);
    health.emptied();
    state.failPostgres = Object.assign(new Error('canceling statement due to lock timeout'), {
      code: '55P03',
    });
    await beat();
    expect(heartbeat.failure?.code).toBe('DATABASE_LOCKED');
    await expect(heartbeat.startEpoch('asked for')).rejects.toMatchObject({ code: 'DATABASE_LOCKED' });
  });

  it('is due again soon after a beat that failed, however long its interval is', async () => {
    const { state, health, heartbeat, beat } = stage({ epoch: 'e1' }, { intervalMs: 30_000 });
    health.emptied();
    state.failSet = true;
    await beat();
    expect(heartbeat.failure).not.toBeNull();
    expect(heartbeat.dueInMs).toBeLessThanOrEqual(2_000);
    state.failSet = false;
    heartbeat.reset();
    await beat();
    expect(heartbeat.failure).toBeNull();
    expect(heartbeat.dueInMs).toBeGreaterThan(20_000);
  });
});
