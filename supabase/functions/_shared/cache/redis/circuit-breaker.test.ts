import { describe, expect, it } from 'vitest';
import { CircuitBreaker } from './circuit-breaker.ts';
import type { Runtime } from './runtime.ts';

/** A circuit breaker whose probe succeeds or fails as told, with a clock that only the test moves. */
function setUp() {
  const world = { now: 0, healthy: false, probes: 0, background: [] as Promise<void>[] };
  const runtime: Runtime = {
    now: () => 0,
    random: () => 0.5,
    monotonic: () => world.now,
    randomToken: () => 'token',
    sleep: () => Promise.resolve(),
    background: (work) => world.background.push(work),
  };
  const circuit = new CircuitBreaker(runtime, async () => {
    world.probes++;
    if (!world.healthy) throw new Error('still away');
  });
  const probed = () => Promise.all(world.background);
  return { world, circuit, probed };
}

describe('the circuit breaker', () => {
  it('opens at the first failure, and only once for all calls that were under way', () => {
    const { circuit } = setUp();
    expect(circuit.allows()).toBe(true);
    expect([circuit.failed('read'), circuit.failed('read')]).toEqual([true, false]);
    expect(circuit.allows()).toBe(false);
  });

  it('probes once when the pause is over, while callers still go without', async () => {
    const { world, circuit, probed } = setUp();
    circuit.failed('read');
    world.now = 999;
    expect([circuit.allows(), world.probes]).toEqual([false, 0]);
    world.now = 1_000;
    world.healthy = true;
    expect([circuit.allows(), circuit.allows(), world.probes]).toEqual([false, false, 1]);
    await probed();
    expect(circuit.allows()).toBe(true);
  });

  it('doubles its pause up to 30 s while probes fail, and starts anew after a real success', async () => {
    const { world, circuit, probed } = setUp();
    circuit.failed('read');
    for (const pause of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
      world.now += pause - 1;
      const before = world.probes;
      circuit.allows();
      expect(world.probes).toBe(before);
      world.now += 1;
      circuit.allows();
      expect(world.probes).toBe(before + 1);
      await probed();
    }
    world.healthy = true;
    world.now += 30_000;
    circuit.allows();
    await probed();
    circuit.succeeded('read');
    circuit.failed('read');
    world.now += 1_000;
    circuit.allows();
    await probed();
    expect(circuit.allows()).toBe(true);
  });

  it('is not closed by a late success of a call from before', () => {
    const { circuit } = setUp();
    circuit.failed('read');
    circuit.succeeded('read');
    expect(circuit.allows()).toBe(false);
  });

  it('pauses longer and longer while reads and probes succeed and writes do not', async () => {
    const { world, circuit, probed } = setUp();
    world.healthy = true;
    for (const pause of [1_000, 2_000, 4_000, 8_000]) {
      circuit.failed('write');
      world.now += pause - 1;
      const before = world.probes;
      circuit.allows();
      expect(world.probes).toBe(before);
      world.now += 1;
      circuit.allows();
      await probed();
      expect(circuit.allows()).toBe(true);
      circuit.succeeded('read');
    }
    circuit.succeeded('write');
    circuit.failed('write');
    world.now += 1_000;
    circuit.allows();
    await probed();
    expect(circuit.allows()).toBe(true);
  });
});
