/**
 * Carries loads out: calls the loader for those that may load now, and waits for another isolate's load for the rest.
 *
 *   WAITING ── entry is there now ──────────────▶ settled with it
 *      │ ├──── lease is free, or is another one by now ──▶ prepared again ── won ──▶ LOADING
 *      │ └──── still held ──▶ pause, read again                             (lost: WAITING for its holder)
 *      └────── waited long enough, or Redis is away ──▶ LOADING without a lease
 *
 *   Rule 7  A caller that does not get the lease repeats the read and the attempt for a bounded time, and then loads itself. It waits
 *           for at most a lease's lifetime, once more where another isolate got it meanwhile, and at most half of the call's `timeout`,
 *           so that a dead leader causes no LOAD_TIMEOUT.
 *
 * Every load settles exactly once, unless its loader never ends; wait-limits.ts says how long a caller waits for that. A leader
 * that dies delays the others by what is left of its lease. A value that a loader gives after all callers gave up is still stored:
 * its version stamp is still right, and the next caller finds it.
 */
import type { CacheError } from '../protocol/errors.ts';
import type { Plan } from '../protocol/fences.ts';
import { allExist, type Hit, type KeyState, leaseKey, type Miss } from '../protocol/key-state.ts';
import type { KeyCatalogue } from '../protocol/key-types.ts';
import type { RedisAccess } from '../redis/redis-access.ts';
import type { Runtime } from '../redis/runtime.ts';
import type { FenceRenewals } from './fence-renewals.ts';
import { prepare, readStates } from './key-states.ts';
import { releaseLeases } from './lease.ts';
import type { LocalLevel } from './local-level.ts';
import { type Outcome, type Settings, typeName } from './options.ts';
import type { RecentReads } from './recent-reads.ts';
import type { Values } from './serializer.ts';
import { type KeyLoad, type SingleFlight, waitsAtMostUntil } from './single-flight.ts';
import type { Statistics } from './statistics.ts';
import { longestMs, store } from './store.ts';
import { UnsupportedValue, valuesOf } from './values.ts';

/** First and longest pause between two reads while another isolate loads. */
const FIRST_PAUSE_MS = 15;
const LONGEST_PAUSE_MS = 200;

/** What all calls of one cache share. */
export interface Core {
  readonly catalogue: KeyCatalogue;
  readonly access: RedisAccess;
  readonly runtime: Runtime;
  readonly settings: Settings;
  readonly renewals: FenceRenewals;
  readonly recentReads: RecentReads;
  readonly singleFlight: SingleFlight;
  readonly statistics: Statistics;
  readonly values: Values;
  /** The first level in process; null unless it was asked for. */
  readonly local: LocalLevel | null;
  /** The protocol's judgement, and the value as the application knows it: what this cache cannot read is a miss. */
  readonly judge: (state: KeyState, degradedMs: number, now: number) => Hit | Miss;
  /** Keys being refreshed behind a stale answer. */
  readonly refreshing: Set<string>;
  /** Warns that loads hang, and gives the error that ends this caller's part in them. */
  readonly reportHung: (plans: readonly Plan[]) => CacheError;
  /** Warns that a value is not cached. */
  readonly reportUnsupported: (plan: Plan, error: UnsupportedValue) => void;
  /** Counts a read and calls the hooks. */
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

/** Settles all loads of one call. Never rejects. */
export async function carryOut(core: Core, loads: readonly KeyLoad[], load: LoadMany): Promise<void> {
  const ready = loads.filter(({ waitsUntil }) => waitsUntil === null);
  const waiting = loads.filter(({ waitsUntil }) => waitsUntil !== null);
  const loading = ready.length > 0 ? [loadInto(core, ready, load)] : [];
  if (waiting.length > 0) loading.push(waitFor(core, waiting, load));
  await Promise.all(loading);
}

async function waitFor(core: Core, loads: readonly KeyLoad[], load: LoadMany): Promise<void> {
  const { runtime } = core;
  const loading: Promise<void>[] = [];
  let waiting = loads;
  for (let pause = FIRST_PAUSE_MS; waiting.length > 0; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
    const left = Math.max(...waiting.map(({ waitsUntil }) => waitsUntil ?? 0)) - runtime.monotonic();
    if (left <= 0) break;
    const signal = signalOf(waiting);
    await runtime.sleep(Math.min(left, pause * (0.75 + 0.5 * runtime.random())), signal);
    if (signal.aborted) break;
    const states = await readStates(
      core,
      waiting.map(({ plan }) => plan),
      waiting.map(({ heldLease }) => heldLease ?? ''),
    );
    if (states === null) break;
    const now = runtime.now();
    const held: KeyLoad[] = [];
    const free: { keyLoad: KeyLoad; state: KeyState }[] = [];
    waiting.forEach((keyLoad, index) => {
      const state = states[index];
      if (state === undefined || settleFrom(core, state, keyLoad, now)) return;
      const { plan, fences, entry, lease } = state;
      const unchanged = allExist(fences) && leaseKey(plan, fences, entry) === keyLoad.heldLease;
      if (unchanged && lease !== null) {
        if (lease !== (keyLoad.heldBy ?? lease)) waitAnew(runtime, keyLoad);
        keyLoad.heldBy = lease;
        held.push(keyLoad);
      } else free.push({ keyLoad, state });
    });
    const won = free.length === 0 ? [] : await claim(core, free, held);
    if (won.length > 0) loading.push(loadInto(core, won, load));
    waiting = held;
  }
  if (waiting.length > 0) loading.push(loadInto(core, waiting, load));
  await Promise.all(loading);
}

/** Settles a load with an entry that was stored meanwhile. */
function settleFrom(core: Core, state: KeyState, keyLoad: KeyLoad, now: number): boolean {
  const judged = core.judge(state, keyLoad.lifetimes.degradedMs, now);
  if (!judged.hit || judged.staleFor !== null) return false;
  keyLoad.settle({ ok: true, value: judged.envelope.value, sharable: true });
  return true;
}

/** Asks for the leases of loads whose leader is gone or useless. @returns the loads that may run now; the others go into `held` */
async function claim(
  core: Core,
  free: readonly { keyLoad: KeyLoad; state: KeyState }[],
  held: KeyLoad[],
): Promise<KeyLoad[]> {
  const wanted = free.map(({ keyLoad: { lifetimes }, state }) => {
    return { state, longestMs: longestMs(lifetimes), leaseMs: lifetimes.leaseMs };
  });
  const prepared = await prepare(core, wanted);
  const { runtime } = core;
  const now = runtime.now();
  const mayLoad: KeyLoad[] = [];
  free.forEach(({ keyLoad }, index) => {
    const ready = prepared?.[index];
    if (ready?.reread === true && settleFrom(core, ready.state, keyLoad, now)) return;
    // Its fences may be newer than those it started with: callers that join from now on have to have seen these.
    keyLoad.stamp = ready?.stamp ? { ...ready.stamp, loadedAt: now } : null;
    keyLoad.lease = ready?.lease ?? null;
    const heldLease = ready?.heldLease ?? null;
    if (heldLease === null) mayLoad.push(keyLoad);
    else {
      waitAnew(runtime, keyLoad);
      held.push(keyLoad);
    }
    keyLoad.heldLease = heldLease;
    keyLoad.heldBy = null;
  });
  return mayLoad;
}

/** Another isolate leads by now, which may take as long as the former one. */
function waitAnew(runtime: Runtime, keyLoad: KeyLoad): void {
  const until = runtime.monotonic() + keyLoad.lifetimes.waitMs;
  keyLoad.waitsUntil = Math.min(until, waitsAtMostUntil(keyLoad));
}

/** One call of the loader for all these keys, then one request that stores what it gave. Never rejects. */
async function loadInto(core: Core, loads: readonly KeyLoad[], load: LoadMany): Promise<void> {
  const { runtime, singleFlight, statistics } = core;
  // Callers of this turn of the event loop may still join a load without fences: its loader is called after them.
  if (loads.some(({ stamp }) => stamp === null)) await Promise.resolve();
  const startedAt = runtime.now();
  for (const keyLoad of loads) {
    singleFlight.close(keyLoad);
    keyLoad.waitsUntil = null;
    if (keyLoad.stamp === null) continue;
    keyLoad.stamp = { ...keyLoad.stamp, loadedAt: startedAt };
    core.recentReads.rememberToken(keyLoad.plan, keyLoad.stamp);
  }
  const counted = (failed: boolean): void => {
    const milliseconds = runtime.now() - startedAt;
    for (const { plan } of loads) statistics.load(typeName(plan), failed, milliseconds);
  };
  try {
    const signal = signalOf(loads);
    signal.throwIfAborted();
    const wanted = loads.map(({ plan }) => plan.key);
    const valueFor = await load(wanted, { signal })
      .then((given) => valuesOf(given, wanted))
      .catch((error: unknown) => {
        counted(true);
        throw error;
      });
    counted(false);
    await keep(core, loads, valueFor);
  } catch (error) {
    for (const keyLoad of loads) keyLoad.settle({ ok: false, error });
    // The leases are given back, so that the next caller need not wait for their end.
    const leases = loads.map(({ lease }) => lease);
    runtime.background(releaseLeases(core.access, runtime, leases));
  }
}

/** Stores what can be stored, then settles every load with its value. */
async function keep(
  core: Core,
  loads: readonly KeyLoad[],
  valueFor: (key: string) => unknown,
): Promise<void> {
  const values = loads.map((keyLoad) => {
    const value = valueFor(keyLoad.plan.key);
    const encoded = core.values.encode(value);
    if (!(encoded instanceof UnsupportedValue)) return { keyLoad, value, encoded, sharable: true };
    core.reportUnsupported(keyLoad.plan, encoded);
    return { keyLoad, value, encoded: null, sharable: false };
  });
  const toStore = values.map(({ keyLoad, encoded }) => {
    const { plan, stamp, lifetimes, lease, replaces } = keyLoad;
    // The store gives it back.
    keyLoad.lease = null;
    // Nobody could read it, nor asks for this lease any more, and what is there now may be good.
    if (stamp !== null && core.recentReads.ofToken(plan.key, stamp) === 'dead')
      return { plan, stamp: null, encoded, lifetimes, lease: null, replaces: false };
    return { plan, stamp, encoded, lifetimes, lease, replaces };
  });
  const { stored, uncacheable } = await store(core, toStore);
  for (const { keyLoad, value, sharable } of values) {
    const { key } = keyLoad.plan;
    if (!sharable || uncacheable.has(key)) core.singleFlight.uncacheable.note(key, false);
    else if (stored.has(key)) core.singleFlight.uncacheable.note(key, true);
    keyLoad.settle({ ok: true, value, sharable });
  }
}

/** All loads of one loader call have the same waiters. */
function signalOf(loads: readonly KeyLoad[]): AbortSignal {
  return loads[0]?.waiters.signal ?? new AbortController().signal;
}
