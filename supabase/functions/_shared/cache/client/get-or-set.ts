/**
 * getOrSet and getOrSetMany: answer from the cache, or load once and store what cannot be stale.
 *
 * What one call does with each of its keys:
 *
 *   READ ──hit──▶ answered                                    one MGET for all keys
 *    │ └─stale──▶ answered, and refreshed in the background
 *    ├─away─────▶ LOADING, not stored, after a moment         Redis does not answer, or is not configured; who asks in
 *    │            in which others may join                    the same moment shares the load (flights.ts)
 *    └─miss─────▶ a load with these very fences is in flight here? ──yes──▶ JOINED
 *                   │ no          (its fences are just being made here? then READ once more when they are)
 *                 PREPARED: missing fences made, lease asked for, read again      one request for all keys
 *                   ├─ stored by somebody meanwhile ──▶ answered
 *                   ├─ a load with these very fences is in flight here by now ──▶ JOINED
 *                   ├─ lease won, or none wanted ──▶ LOADING ──▶ STORED ──▶ answered
 *                   └─ lease lost ──▶ WAITING: reads again, with pauses (loading.ts)
 *
 * A hit is one round trip, a miss three: READ, PREPARED, STORED. Every key in LOADING or WAITING is a flight, so what
 * others in this isolate want meanwhile joins it in whichever of those states it is.
 *
 * Invariant: a caller counts in every crew whose flights it waits for, from boarding until its call ends, however that ends;
 * so a load is aborted exactly when nobody waits for it, and no flight outlives its callers.
 */

import type { Plan } from '../protocol/fences.ts';
import { type Core, drive } from './loader.ts';
import { Boarding, type Call, type Pending } from './lookup.ts';
import { lifetimesOf } from './options.ts';
import { OVERDUE_MS } from './single-flight.ts';
import { OVERDUE, type Patience, startPatience } from './wait-limits.ts';

/** The answers to distinct keys; rejects with the loader's own error. */
export async function resolve(core: Core, plans: readonly Plan[], call: Call): Promise<Map<string, unknown>> {
  const { options } = call;
  options.signal?.throwIfAborted();
  const wanted = plans.map((plan) => ({
    plan,
    lifetimes: lifetimesOf(plan, core.settings, call.ttl, options),
  }));
  const boarding = new Boarding(core, call);
  try {
    if (options.bypass === true) boarding.loadUncached(wanted, 'bypass');
    else await boarding.look(wanted);
  } catch (error) {
    boarding.abandon(error);
    throw error;
  }
  if (boarding.refreshes.length > 0) core.runtime.background(refresh(core, boarding.refreshes, call));
  if (boarding.flights.length > 0) await land(core, boarding, call);
  return boarding.answers;
}

/** Waits for the flights of a call, and adds what they bring to its answers. */
async function land(core: Core, boarding: Boarding, call: Call): Promise<void> {
  const { own, joined } = boarding;
  const beganAt = core.runtime.monotonic();
  const overdueIn = Math.min(...joined.map((flight) => core.flights.patienceFor(flight)));
  const patience = startPatience(
    core.runtime,
    { ...call.options, joined: joined.length > 0 ? { flights: joined, overdueIn } : undefined },
    (reason) => boarding.leave(reason),
  );
  try {
    // The load and the store go on when this caller gives up, as long as somebody else waits.
    if (own.length > 0) core.runtime.background(drive(core, own, call.load));
    const { overdue, unsharable } = await collect(boarding, patience);
    if (overdue.length === 0) boarding.finish();
    else boarding.leave(core.overdue(overdue));
    await askAgain(core, boarding, call, overdue, { beganAt });
    await askAgain(core, boarding, call, unsharable, { beganAt, bypass: true });
  } catch (error) {
    boarding.leave(error);
    throw error;
  } finally {
    patience.end();
  }
}

/** Answers some keys of a call in a second attempt, which nobody is told of, and which has what is left of the call's time. */
async function askAgain(
  core: Core,
  { answers, fallbacks }: Boarding,
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

/** The outcome of every flight; gives the keys that have to be asked for again. */
async function collect(
  boarding: Boarding,
  patience: Patience,
): Promise<{ overdue: Plan[]; unsharable: Plan[] }> {
  const { flights, joined, answers } = boarding;
  const overdue: Plan[] = [];
  const unsharable: Plan[] = [];
  // All at once, so that the first to fail ends the call.
  await Promise.all(
    flights.map(async (flight) => {
      const { plan } = flight;
      const outcome = await patience.settled(flight);
      if (outcome === OVERDUE) overdue.push(plan);
      else if (outcome.ok) {
        if (!joined.includes(flight)) answers.set(plan.key, outcome.value);
        // Callers of one load must not see each other's changes to its value; what cannot be copied, each loads for itself.
        else if (!outcome.sharable || !copyInto(answers, plan.key, outcome.value)) unsharable.push(plan);
      } else {
        const fallback = boarding.fallbackFor(flight);
        if (fallback === null) throw outcome.error;
        answers.set(plan.key, fallback.envelope.value);
      }
    }),
  );
  return { overdue, unsharable };
}

/** Whether the value could be copied: structuredClone refuses a Proxy, which JSON would take. */
function copyInto(answers: Map<string, unknown>, key: string, value: unknown): boolean {
  try {
    answers.set(key, structuredClone(value));
    return true;
  } catch {
    return false;
  }
}

/**
 * Loads behind a stale answer; one isolate does it, and one call in it, for as long as the call's `timeout` allows, and never
 * until for ever: a refresh that hangs must not keep the next one from being tried. Never rejects.
 */
async function refresh(core: Core, pending: readonly Pending[], call: Call): Promise<void> {
  const idle = pending.filter(({ plan }) => !core.refreshing.has(plan.key) && !core.flights.has(plan.key));
  if (idle.length === 0) return;
  for (const { plan } of idle) core.refreshing.add(plan.key);
  const boarding = new Boarding(core, call, true);
  let patience: Patience | undefined;
  try {
    await boarding.board(idle);
    const timeout = call.options.timeout ?? OVERDUE_MS;
    patience = startPatience(core.runtime, { timeout, idle: true }, (reason) => boarding.leave(reason));
    // A flight that lost its lease is driven too, since others may have joined it; it ends with the owner's answer.
    core.runtime.background(drive(core, boarding.own, call.load));
    for (const flight of boarding.own) await patience.settled(flight);
    boarding.finish();
  } catch (error) {
    boarding.abandon(error);
  } finally {
    patience?.end();
    for (const { plan } of idle) core.refreshing.delete(plan.key);
  }
}
