/**
 * The requests that ask Redis for the state of keys: reading, and getting ready to load.
 *
 * Getting ready is one request: SET NX GET for each missing fence, then SET NX for each lease. A key is won if its lease was granted and
 * each of its fences was created here: nobody can have loaded it under these fences before. Where the lease is lost, or another isolate
 * made a fence, one more request asks for the lease under the fences that are known now, and reads again.
 *
 *   Rule 1  A fence holds 128 random bits, new for every attempt, and the client sends each attempt once. The reply to SET NX GET is
 *           the fence. A reply that is this isolate's own proposal means that the network sent it twice: then nothing is stored,
 *           for a third copy could bring the fence back after an invalidation.
 *   Rule 2  A load begins only after all of this was answered. So every fence in its version stamp stood before its snapshot of
 *           the database was taken.
 *
 * Fences of declared types live for ever, and so does the epoch. All others expire (protocol/fence-value.ts). That includes the type
 * fences of undeclared keys: keys such as `{uuid}:profile` have as many types as rows, and would otherwise fill Redis for good.
 */

import type { VersionStamp } from '../protocol/entry.ts';
import { EPOCH_KEY } from '../protocol/epoch.ts';
import { fenceSeconds, fenceValue } from '../protocol/fence-value.ts';
import type { Plan } from '../protocol/fences.ts';
import { allExist, guardsOf, type KeyState, leaseKey, mgetFor, sameTexts } from '../protocol/key-state.ts';
import { RedisFailure } from '../redis/failure.ts';
import type { Runtime } from '../redis/runtime.ts';
import type { Reply, Write } from '../redis/writes.ts';
import { claimOf, type Lease, newLease } from './lease.ts';
import type { Core } from './loader.ts';

/** Limits of one request, in names of Redis keys and in their UTF-16 units: it stays far below Upstash's 10 MB. */
const MOST_NAMES = 1_000;
const MOST_UNITS = 300_000;

/** How often a key is prepared that is invalidated meanwhile. */
const MOST_TRIES = 3;

/** What every function here needs. */
export type Redis = Pick<Core, 'access' | 'runtime' | 'recentReads'>;

/**
 * The state of each key, in order, or null when Redis is away.
 * @param leases the names of leases to look at too, one for each key
 */
export async function readStates(
  { access, recentReads }: Redis,
  plans: readonly Plan[],
  leases?: readonly string[],
): Promise<KeyState[] | null> {
  const states: KeyState[] = [];
  for (const group of requestsFor(plans)) {
    const from = states.length;
    const { names, statesFrom } = mgetFor(group, leases?.slice(from, from + group.length));
    const sentAt = recentReads.moment();
    const values = await access.read(names);
    if (values === null) return null;
    const some = statesFrom(values);
    recentReads.notice(some, sentAt);
    states.push(...some);
  }
  return states;
}

/** A key that was read, and what it needs before it may be loaded. */
export interface KeyToPrepare {
  readonly state: KeyState;
  /** Milliseconds that an entry of this call may live, stale windows included. */
  readonly longestMs: number;
  /** Milliseconds for which to ask for the lease; 0: not at all. */
  readonly leaseMs: number;
}

export interface PreparedKey {
  /** The key as it was when it was last read. */
  readonly state: KeyState;
  /** That was after the lease was asked for: the entry may be there by now. */
  readonly reread: boolean;
  /** What a load that begins now is stored under; null: a fence was not confirmed, so nothing may be stored. */
  readonly stamp: Pick<VersionStamp, 'fences' | 'epoch'> | null;
  /** Ours; null: it was lost, or not asked for. */
  readonly lease: Lease | null;
  /** The name of the lease that another isolate holds, which therefore loads; null: none does. */
  readonly heldLease: string | null;
}

/** Creates missing fences and asks for leases; null when Redis is away. */
export async function prepare(redis: Redis, wanted: readonly KeyToPrepare[]): Promise<PreparedKey[] | null> {
  const prepared: PreparedKey[] = [];
  // For rule 2 it is enough that all requests were answered.
  for (const group of requestsFor(wanted.map(({ state }) => state.plan))) {
    const some = await prepareSome(redis, wanted.slice(prepared.length, prepared.length + group.length));
    if (some === null) return null;
    prepared.push(...some);
  }
  return prepared;
}

/** What is known of a key after the first request. */
interface Attempt {
  readonly key: KeyToPrepare;
  /** Its fences as far as they are confirmed, in the order of guardsOf. */
  readonly fences: readonly (string | null)[];
  readonly lease: Lease | null;
  readonly reply: Reply;
  /** No other isolate made any of its fences. */
  readonly first: boolean;
}

async function prepareSome(
  redis: Redis,
  wanted: readonly KeyToPrepare[],
  tries = MOST_TRIES,
): Promise<PreparedKey[] | null> {
  const attempts = await attempt(redis, wanted);
  if (attempts === null) return null;
  const again: { place: number; fences: readonly string[] }[] = [];
  const prepared = attempts.map(({ key: { state }, fences, lease, reply, first }, place): PreparedKey => {
    const granted = reply === 'OK' ? lease : null;
    const confirmed = allExist(fences);
    if (confirmed && lease !== null && !(reply instanceof RedisFailure) && !(granted !== null && first)) {
      again.push({ place, fences });
    }
    // The heartbeat was read before a missing epoch was made, so nobody vouches for that.
    const stamp = confirmed ? { fences, epoch: state.epoch } : null;
    return { state, reread: false, stamp, lease: granted, heldLease: null };
  });
  if (again.length === 0) return prepared;
  const asked = again.flatMap(({ place, fences }) => {
    const key = wanted[place];
    return key === undefined ? [] : [{ key, fences }];
  });
  const settled = await askAgain(redis, asked);
  again.forEach(({ place }, index) => {
    const state = wanted[place]?.state;
    const unknown = state && { state, reread: false, stamp: null, lease: null, heldLease: null };
    const result = settled?.[index] ?? unknown;
    if (result !== undefined) prepared[place] = result;
  });
  if (settled === null || tries === 1) return prepared;
  // Invalidated while it was prepared. Without fences such a key would be loaded by everybody whom that befell.
  const gone = again.flatMap(({ place }) => {
    const [key, result] = [wanted[place], prepared[place]];
    return key === undefined || result?.stamp !== null
      ? []
      : [{ place, key: { ...key, state: result.state } }];
  });
  if (gone.length === 0) return prepared;
  const anew = await prepareSome(
    redis,
    gone.map(({ key }) => key),
    tries - 1,
  );
  gone.forEach(({ place }, index) => {
    const result = anew?.[index];
    if (result !== undefined) prepared[place] = { ...result, reread: true };
  });
  return prepared;
}

/** The first request: the missing fences, then the leases. Keys of one entity share its fence. */
async function attempt(
  { access, runtime }: Redis,
  wanted: readonly KeyToPrepare[],
): Promise<Attempt[] | null> {
  const creations = creationsFor(wanted, runtime);
  const asked = wanted.map((key) => {
    const { plan, fences, entry } = key.state;
    const hoped = guardsOf(plan).map((name, index) => fences[index] ?? creations.get(name)?.value ?? '');
    const lease = key.leaseMs > 0 ? newLease(leaseKey(plan, hoped, entry), key.leaseMs, runtime) : null;
    return { key, lease };
  });
  const claims = asked.flatMap(({ lease }) => (lease === null ? [] : [claimOf(lease, runtime)]));
  const writes = [...creations.values(), ...claims];
  const replies = writes.length === 0 ? [] : await access.write(writes);
  if (replies === null) return null;
  const replyTo = new Map([...creations.keys()].map((name, index) => [name, replies[index] ?? null]));
  const claimReplies = replies.slice(creations.size).values();
  return asked.map(({ key, lease }) => {
    const guards = guardsOf(key.state.plan);
    return {
      key,
      fences: guards.map(
        (name, index) => key.state.fences[index] ?? confirmed(creations.get(name)?.value, replyTo.get(name)),
      ),
      lease,
      reply: lease === null ? null : (claimReplies.next().value ?? null),
      first: guards.every((name) => (replyTo.get(name) ?? null) === null),
    };
  });
}

/** The fence that stands after SET NX GET; null when it is not known, or the request came twice. */
function confirmed(proposed: string | undefined, reply: Reply | undefined): string | null {
  if (proposed === undefined || reply === undefined) return null;
  if (reply === null) return proposed;
  return typeof reply === 'string' && reply !== proposed ? reply : null;
}

function creationsFor(wanted: readonly KeyToPrepare[], runtime: Runtime) {
  const creations = new Map<string, Write & { op: 'create' }>();
  for (const { state, longestMs } of wanted) {
    const { plan, fences } = state;
    guardsOf(plan).forEach((key, index) => {
      if (fences[index] !== null) return;
      const seconds = plan.expiring.includes(key) ? fenceSeconds(longestMs) : null;
      const before = creations.get(key);
      // Keys of one entity may live for different times; their fence outlives them all.
      if (before !== undefined && (before.seconds ?? Infinity) >= (seconds ?? Infinity)) return;
      const random = runtime.randomToken();
      // The epoch is a name, and never renewed.
      const value = key === EPOCH_KEY ? random : fenceValue(random, runtime.now(), seconds);
      creations.set(key, { op: 'create', key, value, seconds });
    });
  }
  return creations;
}

/** The second request: the leases under the fences that are known now, then one MGET. Null when Redis is away. */
async function askAgain(
  { access, runtime, recentReads }: Redis,
  wanted: readonly { key: KeyToPrepare; fences: readonly string[] }[],
): Promise<PreparedKey[] | null> {
  const leases = wanted.map(({ key: { state, leaseMs }, fences }) =>
    newLease(leaseKey(state.plan, fences, state.entry), leaseMs, runtime),
  );
  const { names, statesFrom } = mgetFor(wanted.map(({ key }) => key.state.plan));
  const sentAt = recentReads.moment();
  const exchange = await access.writeThenRead(
    leases.map((lease) => claimOf(lease, runtime)),
    names,
  );
  if (exchange === null) return null;
  const states = statesFrom(exchange.values);
  recentReads.notice(states, sentAt);
  return states.map((state, index): PreparedKey => {
    const { fences, epoch } = state;
    const reply = exchange.replies[index] ?? null;
    const stamp = allExist(fences) ? { fences, epoch } : null;
    // A lease under fences that have changed since is no lease of this key any more.
    const ours = reply === 'OK' && sameTexts(fences, wanted[index]?.fences ?? []);
    const lost = stamp !== null && !ours && !(reply instanceof RedisFailure);
    const heldLease = lost ? leaseKey(state.plan, stamp.fences, state.entry) : null;
    return { state, reread: true, stamp, lease: ours ? (leases[index] ?? null) : null, heldLease };
  });
}

/** Keys in as few groups as one request each can name. */
function* requestsFor(plans: readonly Plan[]): Generator<Plan[]> {
  let group: Plan[] = [];
  let names = new Set<string>();
  let units = 0;
  for (const plan of plans) {
    const more = [plan.key, ...plan.fences].filter((name) => !names.has(name));
    // The lease repeats the key.
    const added = more.reduce((sum, { length }) => sum + length, plan.key.length);
    // Two names are the epoch and the heartbeat.
    if (group.length > 0 && (names.size + more.length > MOST_NAMES - 2 || units + added > MOST_UNITS)) {
      yield group;
      [group, names, units] = [[], new Set(), 0];
    }
    group.push(plan);
    for (const name of more) names.add(name);
    units += added;
  }
  if (group.length > 0) yield group;
}
