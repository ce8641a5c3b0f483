/**
 * getOrSet and getOrSetMany: answer from the cache, or load once and store what cannot be stale.
 *
 * What one call does with each of its keys:
 *
 *   READ ──hit──▶ answered                                    one MGET for all keys
 *    │ └─stale──▶ answered, and refreshed in the background
 *    ├─away─────▶ LOADING, not stored                         Redis does not answer, or is not configured
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
 */
import { Boarding, type Call, type Pending } from './boarding.ts';
import { type Core, drive } from './loading.ts';
import { withPatience } from './patience.ts';
import { lifetimesOf, type Plan } from './settings.ts';

/** The answers to distinct keys; rejects with the loader's own error. */
export async function resolve(core: Core, plans: readonly Plan[], call: Call): Promise<Map<string, unknown>> {
  const { options } = call;
  options.signal?.throwIfAborted();
  const wanted = plans.map((plan) => ({
    plan,
    lifetimes: lifetimesOf(plan, core.settings, call.ttl, options),
  }));
  const boarding = new Boarding(core, call);
  if (options.bypass === true) boarding.loadUncached(wanted, 'bypass');
  else await boarding.look(wanted);

  const { answers, fallbacks, refreshes, joined, own } = boarding;
  if (refreshes.length > 0) core.runtime.background(refresh(core, refreshes, call));
  const flights = [...joined, ...own.map(({ flight }) => flight)];
  if (flights.length === 0) return answers;
  await withPatience(core.runtime, options, flights, async (settled) => {
    // The load and the store go on when this caller gives up, as long as somebody else waits.
    if (own.length > 0) core.runtime.background(drive(core, own, call.load));
    for (const flight of flights) {
      const { key } = flight.plan;
      const outcome = await settled(flight);
      // Callers of one load must not see each other's changes to its value.
      if (outcome.ok)
        answers.set(key, joined.includes(flight) ? structuredClone(outcome.value) : outcome.value);
      else if (fallbacks.has(key)) answers.set(key, fallbacks.get(key));
      else throw outcome.error;
    }
  });
  return answers;
}

/** Loads behind a stale answer; one isolate does it, and one call in it. Never rejects. */
async function refresh(core: Core, pending: readonly Pending[], call: Call): Promise<void> {
  const idle = pending.filter(({ plan }) => !core.refreshing.has(plan.key) && !core.flights.has(plan.key));
  if (idle.length === 0) return;
  for (const { plan } of idle) core.refreshing.add(plan.key);
  const boarding = new Boarding(core, call, true);
  await boarding.board(idle);
  // A flight that lost its lease is driven too, since others may have joined it; it ends with the owner's answer.
  const stored = boarding.own.filter(({ flight }) => flight.stamp !== null);
  for (const { flight } of stored) flight.crew.join();
  await drive(core, stored, call.load);
  for (const { plan } of idle) core.refreshing.delete(plan.key);
}
