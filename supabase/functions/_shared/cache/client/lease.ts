/**
 * Leases: one isolate loads a key while the others wait for its answer. `prepare` asks for leases, the store gives them back.
 *
 *   Rule 7  A lease has a TTL, so a leader that dies is forgotten. A caller that does not get it reads again and asks again for a
 *           bounded time, and then loads anyway. A lease only saves work: two leaders do no harm, because what each of them
 *           stores is judged by its fences alone.
 *
 * A lease is not renewed, because that would cost a command and a timer for every load. So a load that outlasts its lease is not
 * protected; give it a longer one with the option `lease`.
 *
 * A lease is not compared before it is given back, because that would cost a round trip or a script. Instead it is given back only
 * during its first three quarters: a DEL that takes less than the last quarter deletes our own lease, never the next owner's. After
 * that the lease expires by itself.
 */

import { leaseKey } from '../protocol/key-state.ts';
import type { RedisAccess } from '../redis/redis-access.ts';
import type { Runtime } from '../redis/runtime.ts';

/** The share of a lease's time during which it is given back rather than left to expire. */
const RETURNABLE_SHARE = 0.75;

/** For how long, and for how many keys, an isolate remembers that a lease is no use. */
const REMEMBERED_MS = 60_000;
const MOST_KEYS = 1_000;

/** A lease that is ours. */
export interface Lease {
  readonly key: string;
  /** By the monotonic clock: until then it can be given back; afterwards another isolate may hold it. */
  readonly leasedUntil: number;
}

/** Until when a lease can be given back. @param askedAt when the request that claimed it was about to be sent */
export function returnableUntil(askedAt: number, leaseMs: number): number {
  return askedAt + leaseMs * RETURNABLE_SHARE;
}

/** The leases that can be given back now. */
export function returnable(leases: readonly Lease[], runtime: Runtime): string[] {
  const now = runtime.monotonic();
  return leases.filter(({ leasedUntil }) => now < leasedUntil).map(({ key }) => leaseKey(key));
}

/** Gives leases back, so that the next load need not wait until they expire. */
export async function releaseLeases(
  access: RedisAccess,
  runtime: Runtime,
  leases: readonly Lease[],
): Promise<void> {
  const keys = returnable(leases, runtime);
  if (keys.length > 0) await access.write([{ op: 'delete', keys }]);
}

/**
 * Keys whose last load gave what cannot be cached: JSON would change it, it is too large, or it is an absence that the call does
 * not keep. With a lease such loads would only wait for each other and find nothing. So for a minute after such a load this
 * isolate neither asks for the key's lease nor waits for it. A wrong or forgotten note costs a wait or a load, no more.
 */
export class UncacheableKeys {
  readonly #runtime: Runtime;
  /** Until when each is remembered, by the monotonic clock; in the order in which they were noted. */
  readonly #until = new Map<string, number>();

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  has(key: string): boolean {
    const until = this.#until.get(key);
    if (until === undefined) return false;
    if (this.#runtime.monotonic() < until) return true;
    this.#until.delete(key);
    return false;
  }

  /** The last value of this key could be cached, or not. */
  note(key: string, cacheable: boolean): void {
    this.#until.delete(key);
    if (cacheable) return;
    this.#until.set(key, this.#runtime.monotonic() + REMEMBERED_MS);
    if (this.#until.size <= MOST_KEYS) return;
    for (const oldest of this.#until.keys()) {
      this.#until.delete(oldest);
      break;
    }
  }
}
