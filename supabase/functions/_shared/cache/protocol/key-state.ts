/**
 * Reading: one MGET, and the judgement whether what it brought is a hit.
 *
 *   Rule 5   An entry, all of its fences, the epoch and the heartbeat are read by one MGET, which Redis executes at one moment.
 *   Rule 10  An entry is a hit only under the epoch it was loaded under, with a heartbeat or without (heartbeat.ts).
 *
 * Invariant of a hit: at the moment of the MGET every fence that the entry was loaded under still stood, the epoch being
 * one of them: the fence of everything. Fences are random and never come back once deleted, and the load began after they
 * stood (rule 2), so no invalidation was acknowledged between the load's snapshot of the database and this MGET: the value is
 * as new as every acknowledged invalidation. Reading the entry after its fences would break this: the fence may go, and
 * a newer load may replace the entry, between.
 *
 * While no worker vouches for the epoch nobody is known to be deleting fences, so the age of an entry bounds its staleness.
 */

import type { Lifetimes, Plan } from '../client/options.ts';
import type { RedisAccess } from '../redis/redis-access.ts';
import { readEnvelope, type Stamp } from './entry.ts';
import { EPOCH_KEY, HEARTBEAT_KEY } from './epoch.ts';

/** Keys per MGET: each brings up to four more, and a request has to stay far below Upstash's 10 MB. */
const KEYS_PER_READ = 250;

/** Loaders' clocks may differ by so much; an entry from further in the future has no age to rely on. */
const CLOCK_TOLERANCE_MS = 2_000;

/** What one MGET said about one key. */
export interface KeyState {
  readonly plan: Plan;
  /** In the order of guardsOf(plan); null where a fence does not exist. */
  readonly fences: readonly (string | null)[];
  /** The epoch, if a living worker vouches for it; null: only the age of an entry bounds its staleness. */
  readonly epoch: string | null;
  readonly entry: string | null;
  /** Whether somebody holds the lease; false when leases were not asked for. */
  readonly leased: boolean;
}

/** What a key stands behind: its fences and, last, the epoch. */
export function guardsOf(plan: Plan): string[] {
  return [...plan.scopes.fences, EPOCH_KEY];
}

/** The key of a lease; a key of the machinery, so it can collide with no cached key. */
export function leaseKey(key: string): string {
  return `fencepost:lease:${key}`;
}

/**
 * The state of each key, in order, or null when Redis is away.
 * @param leases also look at each key's lease
 */
export async function readStates(
  access: RedisAccess,
  plans: readonly Plan[],
  leases = false,
): Promise<KeyState[] | null> {
  const states: KeyState[] = [];
  for (let start = 0; start < plans.length; start += KEYS_PER_READ) {
    const { names, statesFrom } = layOut(plans.slice(start, start + KEYS_PER_READ), leases);
    const values = await access.read(names);
    if (values === null) return null;
    states.push(...statesFrom(values));
  }
  return states;
}

/** What one MGET has to name for some keys, and how to read its reply. Every name occurs once. */
export function layOut(
  plans: readonly Plan[],
  leases = false,
): { names: string[]; statesFrom: (values: readonly (string | null)[]) => KeyState[] } {
  const places = new Map<string, number>();
  const place = (name: string): number => {
    const known = places.get(name);
    if (known !== undefined) return known;
    places.set(name, places.size);
    return places.size - 1;
  };
  const wanted = plans.map((plan) => ({
    plan,
    entry: place(plan.key),
    fences: guardsOf(plan).map(place),
    lease: leases ? place(leaseKey(plan.key)) : null,
  }));
  const epoch = place(EPOCH_KEY);
  const heartbeat = place(HEARTBEAT_KEY);
  return {
    names: [...places.keys()],
    statesFrom: (values) => {
      const at = (index: number): string | null => values[index] ?? null;
      return wanted.map(({ plan, entry, fences, lease }) => ({
        plan,
        fences: fences.map(at),
        epoch: at(heartbeat) === at(epoch) ? at(epoch) : null,
        entry: at(entry),
        leased: lease !== null && at(lease) !== null,
      }));
    },
  };
}

/** Whether all the fences exist; then they are what a load begun now may be stamped with. */
export function standing(fences: readonly (string | null)[]): fences is readonly string[] {
  return fences.every((fence) => fence !== null);
}

/** A usable entry: fresh, or past its time but within a stale window. */
export interface Hit {
  readonly value: unknown;
  /** Milliseconds past its time; null while fresh. */
  readonly staleFor: number | null;
}

/** The entry if it may be used now; what is merely stale is reported with its lateness for the caller to decide. */
export function judge(state: KeyState, lifetimes: Lifetimes, now: number): Hit | null {
  if (state.entry === null || !standing(state.fences)) return null;
  const envelope = readEnvelope(state.entry);
  if (envelope === null || !sameTexts(envelope.fences, state.fences)) return null;
  if (!timely(envelope, state.epoch, lifetimes.degradedMs, now)) return null;
  const late = envelope.staleAt === null ? -1 : now - envelope.staleAt;
  return { value: envelope.value, staleFor: late < 0 ? null : late };
}

/** Whether what was, or is being, loaded under a stamp with standing fences may be used now. */
export function timely(stamp: Stamp, epoch: string | null, degradedMs: number, now: number): boolean {
  if (epoch !== null) return stamp.epoch === epoch;
  const age = now - stamp.loadedAt;
  return degradedMs > 0 && age >= -CLOCK_TOLERANCE_MS && age <= degradedMs;
}

export function sameTexts(one: readonly (string | null)[], other: readonly (string | null)[]): boolean {
  return one.length === other.length && one.every((text, index) => text === other[index]);
}
