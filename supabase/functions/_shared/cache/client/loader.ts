/**
 * Driving flights: calling the loader for those that may load, waiting for another isolate's load for the rest.
 *
 *   WAITING ── entry is there now ──────────────▶ settled with it
 *      │ ├──── lease is free ──▶ prepared again ── won ──▶ LOADING
 *      │ └──── still held ──▶ pause, read again           (lost: WAITING)
 *      └────── waited long enough, or Redis is away ──▶ LOADING without a lease
 *
 *   Rule 7  Losers of a lease repeat the whole read and the attempt, for a bounded time, and then load themselves: for as long
 *           as a lease lives, but for no more than half of the call's `timeout`, so that a dead leader is no LOAD_TIMEOUT.
 *
 * Every flight settles exactly once, whatever happens, unless its loader never ends; how long anybody waits for that is
 * patience.ts. A leader that dies delays the others by what is left of its lease. What a loader gives after everybody gave
 * up is still stored: its stamp is as true as ever, and the next caller finds it.
 */
import type { CacheError } from '../protocol/errors.ts';
import type { Plan } from '../protocol/fences.ts';
import { judge, type KeyState, standing } from '../protocol/key-state.ts';
import type { KeyCatalogue } from '../protocol/key-types.ts';
import type { RedisAccess } from '../redis/redis-access.ts';
import type { Runtime } from '../redis/runtime.ts';
import { unsupportedIn } from './json-values.ts';
import { prepare, readStates } from './key-states.ts';
import { type Lease, releaseLeases } from './lease.ts';
import { valuesOf } from './loaded-values.ts';
import { type Outcome, type Settings, typeName } from './options.ts';
import type { Flight, Flights } from './single-flight.ts';
import type { Statistics } from './statistics.ts';
import { longestMs, store } from './store.ts';

/** First and longest pause between two looks at another's load. */
const FIRST_PAUSE_MS = 15;
const LONGEST_PAUSE_MS = 200;

/** What all calls of one cache share. */
export interface Core {
  readonly catalogue: KeyCatalogue;
  readonly access: RedisAccess;
  readonly runtime: Runtime;
  readonly settings: Settings;
  readonly flights: Flights;
  readonly statistics: Statistics;
  /** Keys being refreshed behind a stale answer. */
  readonly refreshing: Set<string>;
  /** Says that loads take too long to wait for, and gives the error that ends this caller's part in them. */
  readonly overdue: (plans: readonly Plan[]) => CacheError;
  /** Says that a value is not cached, because JSON would change it. */
  readonly unsupported: (plan: Plan, error: CacheError) => void;
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

/** Brings every flight to its end. Never rejects. */
export async function drive(core: Core, flights: readonly Flight[], load: LoadMany): Promise<void> {
  const ready = flights.filter(({ waitsUntil }) => waitsUntil === null);
  const waiting = flights.filter(({ waitsUntil }) => waitsUntil !== null);
  const loads = ready.length > 0 ? [loadInto(core, ready, load)] : [];
  if (waiting.length > 0) loads.push(waitFor(core, waiting, load));
  await Promise.all(loads);
}

async function waitFor(core: Core, flights: readonly Flight[], load: LoadMany): Promise<void> {
  const { access, runtime } = core;
  const deadline = Math.max(...flights.map(({ waitsUntil }) => waitsUntil ?? 0));
  const loads: Promise<void>[] = [];
  let waiting = flights;
  for (let pause = FIRST_PAUSE_MS; waiting.length > 0; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    const left = deadline - runtime.monotonic();
    if (left <= 0) break;
    const { signal } = crewOf(waiting);
    await runtime.sleep(Math.min(left, pause * (0.75 + 0.5 * runtime.random())), signal);
    if (signal.aborted) break;
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
      flight.seen = state;
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
  const judged = judge(state, flight.lifetimes.degradedMs, now);
  if (!judged.hit || judged.staleFor !== null) return false;
  flight.settle({ ok: true, value: judged.envelope.value, sharable: true });
  return true;
}

/** Asks again for leases that were given back or ran out. Gives the flights that may load now; the rest is held. */
async function claim(
  { access, runtime }: Core,
  free: readonly { flight: Flight; state: KeyState }[],
  held: Flight[],
): Promise<Flight[]> {
  const wanted = free.map(({ flight: { plan, lifetimes }, state: { fences } }) => {
    return { plan, fences, longestMs: longestMs(lifetimes), leaseMs: lifetimes.leaseMs };
  });
  const prepared = await prepare(access, runtime, wanted);
  const now = runtime.now();
  const mayLoad: Flight[] = [];
  const unneeded: Lease[] = [];
  free.forEach(({ flight }, index) => {
    const { state, leasedUntil = null } = prepared?.[index] ?? {};
    if (state !== undefined && settleFrom(state, flight, now)) {
      if (leasedUntil !== null) unneeded.push({ key: flight.plan.key, leasedUntil });
      return;
    }
    flight.seen = state ?? flight.seen;
    // Its fences may be newer than those it started with: who joins from now on has to have seen these.
    const confirmed = state !== undefined && standing(state.fences);
    flight.stamp = confirmed ? { fences: state.fences, epoch: state.epoch, loadedAt: now } : null;
    flight.leasedUntil = leasedUntil;
    (leasedUntil !== null || !confirmed ? mayLoad : held).push(flight);
  });
  if (unneeded.length > 0) runtime.background(releaseLeases(access, runtime, unneeded));
  return mayLoad;
}

/** One call of the loader for all flights, then one request that stores what it gave. Never rejects. */
async function loadInto(core: Core, flights: readonly Flight[], load: LoadMany): Promise<void> {
  const { access, runtime, settings, statistics } = core;
  // Who asks in this very moment still joins a flight without fences: its load begins after that.
  if (flights.some(({ stamp }) => stamp === null)) await Promise.resolve();
  const startedAt = runtime.now();
  for (const flight of flights) {
    core.flights.depart(flight);
    flight.waitsUntil = null;
    if (flight.stamp !== null) flight.stamp = { ...flight.stamp, loadedAt: startedAt };
  }
  const counted = (failed: boolean): void => {
    const milliseconds = runtime.now() - startedAt;
    for (const { plan } of flights) statistics.load(typeName(plan), failed, milliseconds);
  };
  try {
    const { signal } = crewOf(flights);
    signal.throwIfAborted();
    const wanted = flights.map(({ plan }) => plan.key);
    const loaded = await load(wanted, { signal })
      .then((given) => valuesOf(given, wanted))
      .catch((error: unknown) => {
        counted(true);
        throw error;
      });
    counted(false);
    const values = flights.map((flight) => {
      const value = loaded(flight.plan.key);
      const unsupported = unsupportedIn(value);
      if (unsupported !== null) core.unsupported(flight.plan, unsupported);
      return { flight, value, sharable: unsupported === null };
    });
    const { stored, unkept } = await store(
      access,
      runtime,
      settings,
      values.map(({ flight, value, sharable }) => {
        const { plan, stamp, lifetimes, leasedUntil, renew } = flight;
        // Given back by the store; from now on nobody may take it over.
        flight.leasedUntil = null;
        return { plan, stamp: sharable ? stamp : null, value, lifetimes, leasedUntil, renew };
      }),
    );
    for (const { flight, value, sharable } of values) {
      const { key } = flight.plan;
      if (!sharable || unkept.has(key)) core.flights.unkept.note(key, false);
      else if (stored.has(key)) core.flights.unkept.note(key, true);
      flight.settle({ ok: true, value, sharable });
    }
  } catch (error) {
    for (const flight of flights) flight.settle({ ok: false, error });
    // The lease is given back, so that the next one who wants to try need not wait for its end.
    const leases = flights.flatMap(({ plan: { key }, leasedUntil }) =>
      leasedUntil === null ? [] : [{ key, leasedUntil }],
    );
    if (leases.length > 0) runtime.background(releaseLeases(access, runtime, leases));
  }
}

/** All flights of one loader call are of one crew. */
function crewOf(flights: readonly Flight[]): { readonly signal: AbortSignal } {
  return flights[0]?.crew ?? { signal: new AbortController().signal };
}
