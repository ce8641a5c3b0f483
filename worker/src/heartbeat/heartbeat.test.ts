import { describe, expect, it } from 'vitest';
import { UpstashFailure } from '../apply/upstash-errors.ts';
import { Flow, FRESH_MS, STALL_MS } from '../drain/flow.ts';
import { WorkerError } from '../errors.ts';
import { Heartbeat } from './heartbeat.ts';

/** Redis's one key and Postgres's one row, with everything that is done to them in order. */
function stage() {
  const calls: string[] = [];
  const state = { redis: null as string | null, postgres: 'e1', clock: 0, failSet: false };
  const flow = new Flow(() => state.clock);
  const reasons: string[] = [];
  const heartbeat = new Heartbeat({
    cache: {
      getAndRenew: async (key, seconds) => {
        calls.push(`GETEX ${key} ${seconds}`);
        return state.redis;
      },
      set: async (_key, value) => {
        calls.push(`SET ${value}`);
        if (state.failSet) throw new UpstashFailure('UPSTASH_TIMEOUT', 'Late.', 'wait');
        state.redis = value;
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
    prefix: 'p:',
    flow,
    intervalMs: 0,
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

const GETEX = 'GETEX p:fencepost:heartbeat 90';

describe('Heartbeat', () => {
  it('is silent until invalidations flow, and again when they stall', async () => {
    const { calls, flow, state, beat } = stage();
    state.redis = 'e1';
    await beat();
    expect(calls).toEqual([]);
    flow.drained();
    await beat();
    expect(calls).toEqual([GETEX]);
    state.clock += STALL_MS + 1;
    await beat();
    expect(calls).toEqual([GETEX]);
    flow.confirmed(FRESH_MS + 1);
    await beat();
    expect(calls, 'a batch of old rows is a backlog, not health').toEqual([GETEX]);
    flow.confirmed(10);
    await beat();
    expect(calls).toEqual([GETEX, GETEX]);
  });

  it('costs one command when all is well', async () => {
    const { calls, flow, state, heartbeat, beat } = stage();
    state.redis = 'e1';
    flow.drained();
    await beat();
    expect(calls).toEqual([GETEX]);
    expect(heartbeat.ageMs).not.toBeNull();
  });

  it('answers a missing key with a new epoch, in Postgres before Redis', async () => {
    const { calls, flow, reasons, beat } = stage();
    flow.drained();
    await beat();
    expect(calls).toEqual([GETEX, 'Postgres e2', 'SET e2']);
    expect(reasons).toEqual(['the heartbeat was missing']);
  });

  it('answers a foreign value with a new epoch, unless the database has that one', async () => {
    const { calls, state, flow, reasons, beat } = stage();
    state.redis = 'e1';
    flow.drained();
    await beat();
    state.postgres = 'e7';
    state.redis = 'e7';
    await beat();
    expect(reasons, 'another worker started it').toEqual([]);
    state.redis = 'from a backup';
    await beat();
    expect(calls.slice(2)).toEqual([GETEX, 'Postgres e8', 'SET e8']);
    expect(reasons).toEqual(['the heartbeat held a foreign epoch']);
  });

  it('starts yet another epoch when it is not known whether Redis took the last one', async () => {
    const { calls, state, flow, beat, heartbeat } = stage();
    flow.drained();
    state.failSet = true;
    await expect(heartbeat.startEpoch('asked for')).rejects.toBeInstanceOf(WorkerError);
    state.failSet = false;
    await beat();
    expect(calls).toEqual(['Postgres e2', 'SET e2', GETEX, 'Postgres e3', 'SET e3']);
  });
});
