/**
 * getOrSet and getOrSetMany: answer from the cache, or load once and store what cannot be stale.
 *
 * What one call does with each of its keys:
 *
 *   READ ──hit──▶ answered                                    one MGET for all keys
 *    │ └─stale──▶ answered, and refreshed in the background
 *    ├─away─────▶ LOADING, not stored                         Redis does not answer, or is not configured; callers that
 *    │                                                        ask in the same moment share the load
 *    └─miss─────▶ a load with these very fences is in progress here? ──yes──▶ JOINED
 *                   │ no          (its fences are just being made here? then READ once more when they are)
 *                 PREPARED: missing fences made, lease asked for                  one request for all keys; a second one,
 *                   │                                                             which reads again, where the lease was lost
 *                   ├─ stored by another isolate meanwhile ──▶ answered
 *                   ├─ a load with these very fences is in progress here by now ──▶ JOINED
 *                   ├─ lease won, or none wanted ──▶ LOADING ──▶ STORED ──▶ answered
 *                   └─ lease lost ──▶ WAITING: reads again, with pauses (loader.ts)
 *
 * A hit is one round trip, a miss three: READ, PREPARED, STORED. Every key in LOADING or WAITING is a load in progress, which
 * other callers in this isolate join in either state (single-flight.ts).
 *
 * Invariant: a caller counts among the waiters of every load that it waits for, from the lookup until its call ends. So a load is
 * aborted exactly when nobody waits for it, and no load outlives its callers.
 */
import type { Plan } from '../protocol/fences.ts';
import type { Call, ReadKey, WantedKey } from './call.ts';
import { readStates } from './key-states.ts';
import { type Core, carryOut } from './loader.ts';
import { Lookup } from './lookup.ts';
import { lifetimesOf } from './options.ts';
import { HUNG_AFTER_MS } from './single-flight.ts';
import { HUNG, startWait, type Wait } from './wait-limits.ts';

/** The answers to distinct keys; rejects with the loader's own error. */
export async function resolve(core: Core, plans: readonly Plan[], call: Call): Promise<Map<string, unknown>> {
  const { options } = call;
  options.signal?.throwIfAborted();
  const wanted = plans.map((plan) => ({
    plan,
    lifetimes: lifetimesOf(plan, core.settings, call.ttl, options),
  }));
  const lookup = new Lookup(core, call);
  try {
    if (options.bypass === true) lookup.loadUncached(wanted, 'bypass');
    else if (options.fresh === true) await startFresh(core, lookup, wanted);
    else await lookup.read(wanted);
  } catch (error) {
    lookup.abandon(error);
    throw error;
  }
  if (lookup.refreshes.length > 0) core.runtime.background(refresh(core, lookup.refreshes, call));
  if (lookup.loads.length > 0) await awaitLoads(core, lookup, call);
  return lookup.answers;
}

/**
 * Starts a load for each key, whatever is cached. It takes no lease, since nobody's answer would do, and joins no load that has begun. Its
 * MGET is for the fences alone.
 */
async function startFresh(core: Core, lookup: Lookup, wanted: readonly WantedKey[]): Promise<void> {
  const states = await readStates(
    core,
    wanted.map(({ plan }) => plan),
  );
  if (states === null) {
    lookup.loadUncached(wanted, 'disabled');
    return;
  }
  const read = wanted.flatMap(({ plan, lifetimes }, index) => {
    const state = states[index];
    return state === undefined ? [] : [{ plan, state, lifetimes: { ...lifetimes, leaseMs: 0 } }];
  });
  await lookup.prepareMissing(read);
}

/** Carries out a call's own loads, waits for all that it needs, and adds what they bring to its answers. */
async function awaitLoads(core: Core, lookup: Lookup, call: Call): Promise<void> {
  const { own, joined } = lookup;
  const beganAt = core.runtime.monotonic();
  const hungIn = Math.min(...joined.map((load) => core.singleFlight.hungIn(load)));
  const wait = startWait(
    core.runtime,
    { ...call.options, joined: joined.length > 0 ? { loads: joined, hungIn } : undefined },
    (reason) => lookup.leave(reason),
  );
  try {
    // The load and the store go on when this caller gives up, as long as another one waits.
    if (own.length > 0) core.runtime.background(carryOut(core, own, call.load));
    const { hung, unsharable } = await collect(core, lookup, wait);
    if (hung.length === 0) lookup.finish();
    else lookup.leave(core.reportHung(hung));
    await askAgain(core, lookup, call, hung, { beganAt });
    await askAgain(core, lookup, call, unsharable, { beganAt, bypass: true });
  } catch (error) {
    lookup.leave(error);
    throw error;
  } finally {
    wait.end();
  }
}

/** Answers some keys in a second attempt, within what is left of the call's `timeout`. `onOutcome` is not called again. */
async function askAgain(
  core: Core,
  { answers, fallbacks }: Lookup,
  call: Call,
  plans: readonly Plan[],
  { beganAt, bypass = false }: { beganAt: number; bypass?: boolean },
): Promise<void> {
  if (plans.length === 0) return;
  const { timeout } = call.options;
  const left = timeout === undefined ? undefined : Math.max(0, beganAt + timeout - core.runtime.monotonic());
  const options = { ...call.options, onOutcome: undefined, timeout: left, bypass };
  const again = await resolve(core, plans, { ...call, options, fallbacks });
  for (const [key, value] of again) answers.set(key, value);
}

/** Adds the outcome of every load to the answers. @returns the keys that have to be asked for again */
async function collect(
  { values }: Core,
  lookup: Lookup,
  wait: Wait,
): Promise<{ hung: Plan[]; unsharable: Plan[] }> {
  const { loads, joined, answers } = lookup;
  const hung: Plan[] = [];
  const unsharable: Plan[] = [];
  // All at once, so that the first to fail ends the call.
  await Promise.all(
    loads.map(async (load) => {
      const { plan } = load;
      const outcome = await wait.settled(load);
      if (outcome === HUNG) hung.push(plan);
      else if (outcome.ok) {
        if (!joined.includes(load)) answers.set(plan.key, outcome.value);
        // Callers of one load must not see each other's changes to its value. Each loads for itself what cannot be copied.
        else {
          const copy = outcome.sharable ? values.copy(outcome.value) : undefined;
          if (copy === undefined) unsharable.push(plan);
          else answers.set(plan.key, copy.value);
        }
      } else {
        const fallback = await lookup.fallbackFor(load);
        if (fallback === null) throw outcome.error;
        answers.set(plan.key, fallback.envelope.value);
      }
    }),
  );
  return { hung, unsharable };
}

/**
 * Loads behind a stale answer. One call in one isolate does it, for the call's `timeout` or 30 s: a refresh that hangs must not
 * keep the next one from being tried. Never rejects.
 */
async function refresh(core: Core, stale: readonly ReadKey[], call: Call): Promise<void> {
  const idle = stale.filter(({ plan }) => !core.refreshing.has(plan.key) && !core.singleFlight.has(plan.key));
  if (idle.length === 0) return;
  for (const { plan } of idle) core.refreshing.add(plan.key);
  const lookup = new Lookup(core, call, true);
  let wait: Wait | undefined;
  try {
    await lookup.prepareMissing(idle);
    const timeout = call.options.timeout ?? HUNG_AFTER_MS;
    wait = startWait(core.runtime, { timeout, idle: true }, (reason) => lookup.leave(reason));
    // A load that lost its lease is carried out too, since others may have joined it; it ends with the owner's answer.
    core.runtime.background(carryOut(core, lookup.own, call.load));
    for (const load of lookup.own) await wait.settled(load);
    lookup.finish();
  } catch (error) {
    lookup.abandon(error);
  } finally {
    wait?.end();
    for (const { plan } of idle) core.refreshing.delete(plan.key);
  }
}
