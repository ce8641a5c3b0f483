/**
 * Leases: one isolate loads a key while the others wait for its answer. `prepare` asks for leases.
 *
 *   Rule 7  A lease has a TTL, so a leader that dies is forgotten. A caller that does not get it reads again and asks again for a
 *           bounded time, and then loads anyway. A lease only saves work: two leaders do no harm, because what each of them
 *           stores is judged by its fences alone.
 *
 * A lease's name holds the fences that it was asked under and the unusable entry of theirs that was seen (leaseKey). So it need not be given back
 * when the answer was stored: whoever misses later, for another reason, asks for another lease. Whoever missed before the answer was
 * stored loses, reads again and finds it. It is given back when nothing was stored, or when the entry lives shorter than the lease.
 *
 * A lease is not renewed, because that would cost a command and a timer for every load. So a load that outlasts its lease is not
 * protected; give it a longer one with the option `lease`.
 *
 * A lease is not compared before it is given back, because that would cost a round trip or a script. Instead it is given back only
 * during its first three quarters: a DEL that takes less than the last quarter deletes our own lease, never the next owner's. After
 * that the lease expires by itself.
 */

import type { RedisAccess } from '../redis/redis-access.ts';
import type { Runtime } from '../redis/runtime.ts';
import type { Write } from '../redis/writes.ts';

/** The share of a lease's time during which it is given back rather than left to expire. */
const RETURNABLE_SHARE = 0.75;

/** For how long, and for how many keys, an isolate remembers that a lease is no use. */
const REMEMBERED_MS = 60_000;
const MOST_KEYS = 1_000;

/** A lease that is ours, or asked for. */
export interface Lease {
  readonly name: string;
  readonly milliseconds: number;
  /** By the monotonic clock: until then it can be given back; afterwards another isolate may hold it. */
  readonly returnableUntil: number;
}

/** A lease to ask for in a request that is about to be sent: it begins at some moment after that. */
export function newLease(name: string, milliseconds: number, runtime: Runtime): Lease {
  return { name, milliseconds, returnableUntil: runtime.monotonic() + milliseconds * RETURNABLE_SHARE };
}

/** The write that asks for a lease. Its reply is OK when the lease is ours. */
export function claimOf({ name, milliseconds }: Lease, runtime: Runtime): Write {
  return { op: 'claim', key: name, value: runtime.randomToken(), milliseconds };
}

/** The write that gives back what can be given back now; none when nothing can. */
export function releaseOf(leases: readonly Lease[], runtime: Runtime): Write[] {
  const now = runtime.monotonic();
  const keys = leases.filter(({ returnableUntil }) => now < returnableUntil).map(({ name }) => name);
  return keys.length === 0 ? [] : [{ op: 'delete', keys }];
}

/** Gives leases back, so that the next load need not wait until they expire. */
export async function releaseLeases(
  access: RedisAccess,
  runtime: Runtime,
  leases: readonly (Lease | null)[],
): Promise<void> {
  const release = releaseOf(
    leases.filter((lease) => lease !== null),
    runtime,
  );
  if (release.length > 0) await access.write(release);
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
