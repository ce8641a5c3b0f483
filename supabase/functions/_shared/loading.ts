/**
 * Driving flights: calling the loader for those that may load, waiting for another isolate's load for the rest.
 *
 *   WAITING ── entry is there now ──────────────▶ settled with it
 *      │ ├──── lease is free ──▶ prepared again ── won ──▶ LOADING
 *      │ └──── still held ──▶ pause, read again           (lost: WAITING)
 *      └────── waited as long as a lease lives, or Redis is away ──▶ LOADING without a lease
 *
 *   Rule 7  Losers of a lease repeat the whole read and the attempt, for a bounded time, and then load themselves.
 *
 * Every flight settles exactly once, whatever happens, so nobody waits for ever; a leader that dies delays the others by
 * what is left of its lease.
 */
import type { Flight, Flights } from './flights.ts';
import { prepare, releaseLeases } from './lease.ts';
import type { RedisAccess } from './redis-access.ts';
import type { Runtime } from './runtime.ts';
import { type Outcome, type Plan, type Settings, typeName } from './settings.ts';
import { judge, type KeyState, readStates, standing } from './snapshot.ts';
import type { Statistics } from './statistics.ts';
import { longestMs, store } from './store.ts';

/** First and longest pause between two looks at another's load. */
const FIRST_PAUSE_MS = 15;
const LONGEST_PAUSE_MS = 200;

/** What all calls of one cache share. */
export interface Core {
  readonly access: RedisAccess;
  readonly runtime: Runtime;
  readonly settings: Settings;
  readonly flights: Flights;
  readonly statistics: Statistics;
  /** Keys being refreshed behind a stale answer. */
  readonly refreshing: Set<string>;
  /** Counts a read and tells the hooks. */
  readonly observe: (plan: Plan, outcome: Outcome, milliseconds: number) => void;
}

export interface LoadContext {
  /** Aborts when nobody waits for this load any more. */
  readonly signal: AbortSignal;
}

export type LoadMany = (
  keys: readonly string[],
  context: LoadContext,
) => Promise<ReadonlyMap<string, unknown> | Readonly<Record<string, unknown>>>;

/** A flight that its starter has to bring to an end; `waits` for the load of whoever holds the lease. */
export interface Driven {
  readonly flight: Flight;
  readonly waits: boolean;
}

/** Brings every flight to its end. Never rejects. */
export async function drive(core: Core, driven: readonly Driven[], load: LoadMany): Promise<void> {
  const ready = driven.filter(({ waits }) => !waits).map(({ flight }) => flight);
  const waiting = driven.filter(({ waits }) => waits).map(({ flight }) => flight);
  const loads = ready.length > 0 ? [loadInto(core, ready, load)] : [];
  if (waiting.length > 0) loads.push(waitFor(core, waiting, load));
  await Promise.all(loads);
}

async function waitFor(core: Core, flights: readonly Flight[], load: LoadMany): Promise<void> {
  const { access, runtime, settings } = core;
  const deadline = runtime.now() + settings.leaseMs;
  const loads: Promise<void>[] = [];
  let waiting = flights;
  for (let pause = FIRST_PAUSE_MS; waiting.length > 0; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    const left = deadline - runtime.now();
    if (left <= 0) break;
    await runtime.sleep(Math.min(left, pause * (0.75 + 0.5 * runtime.random())));
    const states = await readStates(
      access,
      waiting.map(({ plan }) => plan),
      true,
    );
    if (states === null) break;
    const now = runtime.now();
    const held: Flight[] = [];
    const free: { flight: Flight; state: KeyState }[] = [];
    waiting.forEach((flight, index) => {
      const state = states[index];
      if (state === undefined || settleFrom(state, flight, now)) return;
      if (state.leased) held.push(flight);
      else free.push({ flight, state });
    });
    const won = free.length === 0 ? [] : await claim(core, free, held);
    if (won.length > 0) loads.push(loadInto(core, won, load));
    waiting = held;
  }
  if (waiting.length > 0) loads.push(loadInto(core, waiting, load));
  await Promise.all(loads);
}

/** Settles a flight with an entry that somebody stored meanwhile. */
function settleFrom(state: KeyState, flight: Flight, now: number): boolean {
  const hit = judge(state, flight.lifetimes, now);
  if (hit === null || hit.staleFor !== null) return false;
  flight.settle({ ok: true, value: hit.value });
  return true;
}

/** Asks again for leases that were given back or ran out. Gives the flights that may load now; the rest is held. */
async function claim(
  { access, runtime, settings }: Core,
  free: readonly { flight: Flight; state: KeyState }[],
  held: Flight[],
): Promise<Flight[]> {
  const wanted = free.map(({ flight: { plan, lifetimes }, state: { fences } }) => {
    return { plan, fences, longestMs: longestMs(lifetimes), claim: true };
  });
  const prepared = await prepare(access, runtime, wanted, settings.leaseMs);
  const now = runtime.now();
  const mayLoad: Flight[] = [];
  const unneeded: string[] = [];
  free.forEach(({ flight }, index) => {
    const { state, won = false } = prepared?.[index] ?? {};
    if (state !== undefined && settleFrom(state, flight, now)) {
      if (won) unneeded.push(flight.plan.key);
      return;
    }
    // Its fences may be newer than those it started with: who joins from now on has to have seen these.
    const confirmed = state !== undefined && standing(state.fences);
    flight.stamp = confirmed ? { fences: state.fences, epoch: state.epoch, loadedAt: now } : null;
    flight.leased = won;
    (won || !confirmed ? mayLoad : held).push(flight);
  });
  if (unneeded.length > 0) runtime.background(releaseLeases(access, unneeded));
  return mayLoad;
}

/** One call of the loader for all flights, then one request that stores what it gave. Never rejects. */
async function loadInto(core: Core, flights: readonly Flight[], load: LoadMany): Promise<void> {
  const startedAt = core.runtime.now();
  const counted = (failed: boolean): void => {
    const milliseconds = core.runtime.now() - startedAt;
    for (const { plan } of flights) core.statistics.load(typeName(plan), failed, milliseconds);
  };
  try {
    const signal = flights[0]?.crew.signal ?? new AbortController().signal;
    const loaded = await load(
      flights.map(({ plan }) => plan.key),
      { signal },
    ).catch((error: unknown) => {
      counted(true);
      throw error;
    });
    counted(false);
    const values = flights.map((flight) => ({
      flight,
      value: valueFor(loaded, flight.plan.key),
    }));
    await store(
      core.access,
      core.runtime,
      core.settings,
      values.map(({ flight, value }) => ({
        plan: flight.plan,
        stamp: flight.stamp === null ? null : { ...flight.stamp, loadedAt: startedAt },
        value,
        lifetimes: flight.lifetimes,
        leased: flight.leased,
        renew: flight.renew,
      })),
    );
    for (const { flight, value } of values) flight.settle({ ok: true, value });
  } catch (error) {
    for (const flight of flights) flight.settle({ ok: false, error });
    // The lease is given back, so that the next one who wants to try need not wait for its end.
    const leased = flights.filter(({ leased }) => leased).map(({ plan }) => plan.key);
    if (leased.length > 0) core.runtime.background(releaseLeases(core.access, leased));
  }
}

function valueFor(loaded: Awaited<ReturnType<LoadMany>>, key: string): unknown {
  if (loaded instanceof Map) return loaded.get(key);
  return Object.hasOwn(loaded, key) ? (loaded as Readonly<Record<string, unknown>>)[key] : undefined;
}
