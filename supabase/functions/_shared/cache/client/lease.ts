/**
 * Getting ready to load: fences that do not exist yet are created, a lease is asked for, and everything is read once more,
 * all in one request: SET NX for each missing fence, SET NX for each lease, one MGET.
 *
 *   Rule 1  A fence is 128 random bits, new for every attempt, and the client sends each attempt once. Only fences that the
 *           MGET has shown to stand are used: a SET NX that was not confirmed may still arrive, and then stands there
 *           with a value that nobody stamps.
 *   Rule 2  A load begins only after this request was answered. So every fence in its stamp stood before its snapshot of
 *           the database was taken.
 *   Rule 7  A lease has a TTL, so a leader that dies is forgotten; who does not get it repeats the whole read and the
 *           attempt for a bounded time, and then loads anyway. The lease only saves work: two leaders do no harm,
 *           since what each stores is judged by its fences alone.
 *
 * A lease is neither renewed nor compared before it is given back: renewing would cost a command and a timer for every load, a
 * comparison with Redis a round trip or a script. So a load that outlasts its lease is not protected (that is what the
 * option `lease` is for), and only the first three quarters of a lease are given back: a DEL that is underway for less
 * than the last quarter meets our own lease, and not the next owner's. After that it is left to expire.
 *
 * Why the second MGET: between the first one, which missed, and winning the lease, the leader before may have stored and
 * released. Without looking again every late-comer of a herd would load once more. It also spares SET its GET, which
 * servers before Redis 7 refuse together with NX.
 *
 * The catalogue's type fences live for ever, and so does the epoch, the fence of everything. The others live as long as the
 * longest-lived entry of the call plus jitter; EXPIRE GT renews those that a miss found (store.ts), so a fence outlives what
 * was stored under it unless it is evicted, and then its entries are merely misses. That includes the fences of types outside
 * the catalogue: keys such as `{uuid}:profile` have as many types as rows, and would otherwise fill Redis for good.
 */

import { guardsOf, type KeyState, layOut, leaseKey } from '../protocol/key-state.ts';
import type { RedisAccess } from '../redis/redis-access.ts';
import type { Runtime } from '../redis/runtime.ts';
import type { Write } from '../redis/upstash.ts';
import type { Plan } from './options.ts';

/** A fence outlives the entries under it by up to this share of their time to live. */
const FENCE_JITTER = 0.1;

/** The share of a lease's time during which it is given back rather than left to expire. */
const RETURNABLE_SHARE = 0.75;

/** Keys prepared by one request; each takes up to four writes, and a request has to stay far below Upstash's 10 MB. */
const KEYS_PER_REQUEST = 250;

/** What a key needs before it may be loaded. */
export interface Wanted {
  readonly plan: Plan;
  readonly fences: readonly (string | null)[];
  /** Milliseconds that an entry of this call may live, stale windows included. */
  readonly longestMs: number;
  /** Milliseconds for which to ask for the lease; 0: not at all. */
  readonly leaseMs: number;
}

/** A lease that is ours. */
export interface Lease {
  readonly key: string;
  /** By the monotonic clock: until then it can be given back, afterwards it may be somebody else's. */
  readonly leasedUntil: number;
}

export interface Prepared {
  /** The key as it is now; `fences` may still hold null where one was deleted again or refused. */
  readonly state: KeyState;
  /** Set when the lease is ours; see Lease. */
  readonly leasedUntil: number | null;
}

/**
 * Creates missing fences, claims leases and reads again, in one request for as many keys as fit one (rule 2 asks no more than
 * that all of them have been answered); null when Redis is away.
 */
export async function prepare(
  access: RedisAccess,
  runtime: Runtime,
  wanted: readonly Wanted[],
): Promise<Prepared[] | null> {
  const prepared: Prepared[] = [];
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
  wanted: readonly Wanted[],
): Promise<Prepared[] | null> {
  const creations = new Map<string, Write & { op: 'create' }>();
  for (const { plan, fences, longestMs } of wanted) {
    guardsOf(plan).forEach((key, index) => {
      if (fences[index] !== null) return;
      const seconds = plan.scopes.mortal.includes(key) ? fenceSeconds(longestMs, runtime) : null;
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
  const { names, statesFrom } = layOut(wanted.map(({ plan }) => plan));
  // Before it is sent, since Redis may count from any moment after this.
  const askedAt = runtime.monotonic();
  const exchange = await access.writeThenRead([...creations.values(), ...claims], names);
  if (exchange === null) return null;
  const won = new Map<string, number>();
  claimed.forEach(({ plan, leaseMs }, index) => {
    if (exchange.replies[creations.size + index] !== 'OK') return;
    won.set(plan.key, askedAt + leaseMs * RETURNABLE_SHARE);
  });
  return statesFrom(exchange.values).map((state) => {
    return { state, leasedUntil: won.get(state.plan.key) ?? null };
  });
}

/** Seconds for a fence whose entries live at most so many milliseconds. */
function fenceSeconds(longestMs: number, runtime: Runtime): number {
  return Math.max(1, Math.ceil((longestMs / 1_000) * (1 + FENCE_JITTER * runtime.random())) + 1);
}

/** The fences of a key that were found standing, and so may be near their end. @param seen in the order of guardsOf(plan) */
export function renewable({ scopes }: Plan, seen: readonly (string | null)[]): string[] {
  return scopes.fences.filter((key, index) => seen[index] !== null && scopes.mortal.includes(key));
}

/** Writes that keep fences alive. */
export function renewals(fenceKeys: readonly string[], longestMs: number, runtime: Runtime) {
  return fenceKeys.map((key) => ({ op: 'renew' as const, key, seconds: fenceSeconds(longestMs, runtime) }));
}

/** The leases that can be given back now. */
export function returnable(leases: readonly Lease[], runtime: Runtime): string[] {
  const now = runtime.monotonic();
  return leases.filter(({ leasedUntil }) => now < leasedUntil).map(({ key }) => leaseKey(key));
}

/** Gives leases back, so that the next one who wants to load need not wait for their end. */
export async function releaseLeases(
  access: RedisAccess,
  runtime: Runtime,
  leases: readonly Lease[],
): Promise<void> {
  const keys = returnable(leases, runtime);
  if (keys.length > 0) await access.write([{ op: 'delete', keys }]);
}
