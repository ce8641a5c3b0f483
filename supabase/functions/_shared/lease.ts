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
 * Why the second MGET: between the first one, which missed, and winning the lease, the leader before may have stored and
 * released. Without looking again every late-comer of a herd would load once more. It also spares SET its GET, which
 * servers before Redis 7 refuse together with NX.
 *
 * Type fences live for ever, and so does the epoch, the fence of everything. The others live as long as the longest-lived
 * entry of the call plus jitter; EXPIRE GT renews those that a miss found (store.ts), so a fence outlives what was stored
 * under it unless it is evicted, and then its entries are merely misses.
 */
import type { Write } from './connection.ts';
import { EPOCH_KEY } from './heartbeat.ts';
import type { RedisAccess } from './redis-access.ts';
import type { Runtime } from './runtime.ts';
import type { Plan } from './settings.ts';
import { guardsOf, type KeyState, layOut, leaseKey } from './snapshot.ts';

/** A fence outlives the entries under it by up to this share of their time to live. */
const FENCE_JITTER = 0.1;

/** What a key needs before it may be loaded. */
export interface Wanted {
  readonly plan: Plan;
  readonly fences: readonly (string | null)[];
  /** Milliseconds that an entry of this call may live, stale windows included. */
  readonly longestMs: number;
  /** Whether to ask for the lease. */
  readonly claim: boolean;
}

export interface Prepared {
  /** The key as it is now; `fences` may still hold null where one was deleted again or refused. */
  readonly state: KeyState;
  /** Whether the lease is ours. */
  readonly won: boolean;
}

/** Creates missing fences, claims leases and reads again, in one request; null when Redis is away. */
export async function prepare(
  access: RedisAccess,
  runtime: Runtime,
  wanted: readonly Wanted[],
  leaseMs: number,
): Promise<Prepared[] | null> {
  const creations = new Map<string, Write & { op: 'create' }>();
  for (const { plan, fences, longestMs } of wanted) {
    guardsOf(plan).forEach((key, index) => {
      if (fences[index] !== null) return;
      const seconds = index === 0 || key === EPOCH_KEY ? null : fenceSeconds(longestMs, runtime);
      const before = creations.get(key);
      // Keys of one entity may live for different times; their fence outlives them all.
      if (before === undefined || (before.seconds ?? Infinity) < (seconds ?? Infinity)) {
        creations.set(key, { op: 'create', key, value: runtime.randomToken(), seconds });
      }
    });
  }
  const claimed = wanted.filter(({ claim }) => claim && leaseMs > 0).map(({ plan }) => plan.key);
  const claims = claimed.map((key): Write => {
    return { op: 'claim', key: leaseKey(key), value: runtime.randomToken(), milliseconds: leaseMs };
  });
  const { names, statesFrom } = layOut(wanted.map(({ plan }) => plan));
  const exchange = await access.writeThenRead([...creations.values(), ...claims], names);
  if (exchange === null) return null;
  const won = new Set(claimed.filter((_, index) => exchange.replies[creations.size + index] === 'OK'));
  return statesFrom(exchange.values).map((state) => ({ state, won: won.has(state.plan.key) }));
}

/** Seconds for a fence whose entries live at most so many milliseconds. */
function fenceSeconds(longestMs: number, runtime: Runtime): number {
  return Math.max(1, Math.ceil((longestMs / 1_000) * (1 + FENCE_JITTER * runtime.random())) + 1);
}

/** Writes that keep the fences of an entity alive; the type's has no end. */
export function renewals(fenceKeys: readonly string[], longestMs: number, runtime: Runtime) {
  return fenceKeys
    .slice(1)
    .map((key) => ({ op: 'renew' as const, key, seconds: fenceSeconds(longestMs, runtime) }));
}

/** Gives leases back, so that the next one who wants to load need not wait for their end. */
export async function releaseLeases(access: RedisAccess, keys: readonly string[]): Promise<void> {
  if (keys.length > 0) await access.write([{ op: 'delete', keys: keys.map(leaseKey) }]);
}
