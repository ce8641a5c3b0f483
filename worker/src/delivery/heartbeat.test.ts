import { describe, expect, it } from 'vitest';
import { WorkerError } from '../lib/errors.ts';
import { UpstashFailure } from '../redis/errors.ts';
import { Flow, FRESH_MS, STALL_MS } from './health.ts';
import { BEATS_PER_LOOK, Heartbeat } from './heartbeat.ts';

/** Redis's two keys and Postgres's one row, with everything that is done to them in order. */
function stage(epochs: { heartbeat?: string; epoch?: string } = {}, { intervalMs = 0 } = {}) {
  const calls: string[] = [];
  const { heartbeat: beats = null, epoch = null } = epochs;
  const state = { heartbeat: beats, epoch, postgres: 'e1', clock: 0, failSet: false } as {
    heartbeat: string | null;
    epoch: string | null;
    postgres: string;
    clock: number;
    failSet: boolean;
  };
  const flow = new Flow(() => state.clock);
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
      epoch: async () => state.postgres,
      newEpoch: async () => {
        state.postgres = `e${Number(state.postgres.slice(1)) + 1}`;
        calls.push(`Postgres ${state.postgres}`);
        return state.postgres;
      },
    },
    flow,
    intervalMs,
    onTrouble: () => calls.push('trouble'),
    onNewEpoch: (reason) => reasons.push(reason),
  });
  const beat = async () => {
    heartbeat.poke();
    await heartbeat.settled();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { calls, state, flow, heartbeat, reasons, beat };
}

const GETEX = 'GETEX fencepost:heartbeat 90';
const LOOK = 'GET fencepost:epoch';
const start = (epoch: string) => [
  `Postgres ${epoch}`,
  `SET fencepost:epoch ${epoch} null, SET fencepost:heartbeat ${epoch} 90`,
];
const known = { heartbeat: 'e1', epoch: 'e1' };

describe('Heartbeat', () => {
  it('is silent until invalidations flow, and again when they stall', async () => {
    const { calls, flow, state, beat } = stage(known);
    const beats = () => calls.filter((call) => call === GETEX).length;
    await beat();
    expect(calls).toEqual([]);
    flow.drained();
    await beat();
    expect(beats()).toBe(1);
    state.clock += STALL_MS + 1;
    await beat();
    expect(beats()).toBe(1);
    flow.confirmed(FRESH_MS + 1);
    await beat();
    expect(beats(), 'a batch of old rows is a backlog, not health').toBe(1);
    flow.confirmed(10);
    await beat();
    expect(beats()).toBe(2);
  });

  it('costs one command when all is well, and one more for every tenth beat', async () => {
    const { calls, flow, heartbeat, beat } = stage(known);
    flow.drained();
    for (let beats = 0; beats < 2 * BEATS_PER_LOOK; beats++) await beat();
    const ten = [GETEX, LOOK, ...Array.from({ length: BEATS_PER_LOOK - 1 }, () => GETEX)];
    expect(calls).toEqual([...ten, ...ten]);
    expect(heartbeat.ageMs).not.toBeNull();
    const beatsAMonth = (30 * 86_400) / 30;
    expect(beatsAMonth * (1 + 1 / BEATS_PER_LOOK)).toBeLessThanOrEqual(100_000);
  });

  it('answers a missing heartbeat with a new epoch, in Postgres before Redis, though the epoch is there', async () => {
    const { calls, flow, reasons, beat } = stage({ epoch: 'e1' });
    flow.drained();
    await beat();
    expect(calls).toEqual([GETEX, ...start('e2')]);
    expect(reasons).toEqual(['the heartbeat was missing']);
  });

  it('answers a foreign value with a new epoch, unless the database has that one', async () => {
    const { calls, state, flow, reasons, beat } = stage(known);
    flow.drained();
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
      const { calls, state, flow, reasons, beat } = stage(known);
      flow.drained();
      await beat();
      state.epoch = found;
      for (let beats = 0; beats < BEATS_PER_LOOK; beats++) await beat();
      expect(calls.slice(-3)).toEqual([LOOK, ...start('e2')]);
      expect(reasons).toEqual(['the epoch was lost']);
    }
  });

  it('starts yet another epoch when it is not known whether Redis took the last one', async () => {
    const { calls, state, flow, beat, heartbeat } = stage();
    flow.drained();
    state.failSet = true;
    await expect(heartbeat.startEpoch('asked for')).rejects.toBeInstanceOf(WorkerError);
    state.failSet = false;
    await beat();
    expect(calls).toEqual([...start('e2'), GETEX, ...start('e3')]);
  });

  it('is due again soon after a beat that failed, however long its interval is', async () => {
    const { state, flow, heartbeat, beat } = stage({ epoch: 'e1' }, { intervalMs: 30_000 });
    flow.drained();
    state.failSet = true;
    await beat();
    expect(heartbeat.failure).not.toBeNull();
    expect(heartbeat.dueInMs).toBeLessThanOrEqual(2_000);
    state.failSet = false;
    heartbeat.forget();
    await beat();
    expect(heartbeat.failure).toBeNull();
    expect(heartbeat.dueInMs).toBeGreaterThan(20_000);
  });
});
