/**
 * The two requests that ask Redis for the state of keys: reading, and getting ready to load.
 *
 * Getting ready is one request: SET NX for each missing fence, SET NX for each lease, one MGET.
 *
 *   Rule 1  A fence is 128 random bits, new for every attempt, and the client sends each attempt once. Only fences that the
 *           MGET has shown are used: a SET NX that was not confirmed may still arrive, and no entry may carry its value.
 *   Rule 2  A load begins only after this request was answered. So every fence in its version stamp stood before its snapshot of
 *           the database was taken.
 *
 * Why it reads again: between the first MGET, which missed, and winning the lease, the leader before may have stored its answer
 * and given its lease back. Without the second MGET every late caller of a herd would load once more.
 *
 * Fences of known types live for ever, and so does the epoch. All other fences live as long as the longest-lived entry of the call
 * plus jitter, and EXPIRE GT renews those that a miss found (store.ts). That includes the fences of unknown types: keys such as
 * `{uuid}:profile` have as many types as rows, and would otherwise fill Redis for good.
 */

import type { Plan } from '../protocol/fences.ts';
import { guardsOf, type KeyState, leaseKey, mgetFor } from '../protocol/key-state.ts';
import type { RedisAccess } from '../redis/redis-access.ts';
import type { Runtime } from '../redis/runtime.ts';
import type { Write } from '../redis/writes.ts';
import { returnableUntil } from './lease.ts';

/** A fence outlives the entries under it by up to this share of their time to live. */
const FENCE_JITTER = 0.1;

/** Keys of one request: each brings up to four names and four writes, and Upstash takes 10 MB. */
const KEYS_PER_REQUEST = 250;

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
  for (let start = 0; start < plans.length; start += KEYS_PER_REQUEST) {
    const { names, statesFrom } = mgetFor(plans.slice(start, start + KEYS_PER_REQUEST), leases);
    const values = await access.read(names);
    if (values === null) return null;
    states.push(...statesFrom(values));
  }
  return states;
}

/** What a key needs before it may be loaded. */
export interface KeyToPrepare {
  readonly plan: Plan;
  readonly fences: readonly (string | null)[];
  /** Milliseconds that an entry of this call may live, stale windows included. */
  readonly longestMs: number;
  /** Milliseconds for which to ask for the lease; 0: not at all. */
  readonly leaseMs: number;
}

export interface PreparedKey {
  /** The key as it is now; `fences` may still hold null where one was deleted again or refused. */
  readonly state: KeyState;
  /** Set when the lease is ours; see Lease. */
  readonly leasedUntil: number | null;
}

/**
 * Creates missing fences, claims leases and reads again; null when Redis is away. One request serves as many keys as fit it. For
 * rule 2 it is enough that all requests were answered.
 */
export async function prepare(
  access: RedisAccess,
  runtime: Runtime,
  wanted: readonly KeyToPrepare[],
): Promise<PreparedKey[] | null> {
  const prepared: PreparedKey[] = [];
  for (let start = 0; start < wanted.length; start += KEYS_PER_REQUEST) {
    const some = await prepareSome(access, runtime, wanted.slice(start, start + KEYS_PER_REQUEST));
    if (some === null) return null;
    prepared.push(...some);
  }
  return prepared;
}

async function prepareSome(
  access: RedisAccess,
  runtime: Runtime,
  wanted: readonly KeyToPrepare[],
): Promise<PreparedKey[] | null> {
  const creations = new Map<string, Write & { op: 'create' }>();
  for (const { plan, fences, longestMs } of wanted) {
    guardsOf(plan).forEach((key, index) => {
      if (fences[index] !== null) return;
      const seconds = plan.expiring.includes(key) ? fenceSeconds(longestMs, runtime) : null;
      const before = creations.get(key);
      // Keys of one entity may live for different times; their fence outlives them all.
      if (before === undefined || (before.seconds ?? Infinity) < (seconds ?? Infinity)) {
        creations.set(key, { op: 'create', key, value: runtime.randomToken(), seconds });
      }
    });
  }
  const claimed = wanted.filter(({ leaseMs }) => leaseMs > 0);
  const claims = claimed.map(({ plan, leaseMs }): Write => {
    return { op: 'claim', key: leaseKey(plan.key), value: runtime.randomToken(), milliseconds: leaseMs };
  });
  const { names, statesFrom } = mgetFor(wanted.map(({ plan }) => plan));
  // Taken before the request is sent: the lease begins at some moment after that.
  const askedAt = runtime.monotonic();
  const exchange = await access.writeThenRead([...creations.values(), ...claims], names);
  if (exchange === null) return null;
  const won = new Map<string, number>();
  claimed.forEach(({ plan, leaseMs }, index) => {
    if (exchange.replies[creations.size + index] !== 'OK') return;
    won.set(plan.key, returnableUntil(askedAt, leaseMs));
  });
  return statesFrom(exchange.values).map((state) => {
    return { state, leasedUntil: won.get(state.plan.key) ?? null };
  });
}

/** Seconds for a fence whose entries live at most so many milliseconds. */
function fenceSeconds(longestMs: number, runtime: Runtime): number {
  return Math.max(1, Math.ceil((longestMs / 1_000) * (1 + FENCE_JITTER * runtime.random())) + 1);
}

/** The fences of a key that already existed, and so may be near their end. @param seen in the order of guardsOf(plan) */
export function renewable({ fences, expiring }: Plan, seen: readonly (string | null)[]): string[] {
  return fences.filter((key, index) => seen[index] !== null && expiring.includes(key));
}

/** Writes that keep fences alive. */
export function renewals(fenceKeys: readonly string[], longestMs: number, runtime: Runtime) {
  return fenceKeys.map((key) => ({ op: 'renew' as const, key, seconds: fenceSeconds(longestMs, runtime) }));
}
