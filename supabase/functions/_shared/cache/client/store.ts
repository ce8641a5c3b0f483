/**
 * Storing: what was loaded goes into Redis with the fences and the epoch taken before the load.
 *
 *   Rule 3  The version stamp is never refreshed, and the SET is plain and unconditional. An invalidation since then has deleted a
 *           fence, so the entry is unreadable from the start; writing it over a newer entry costs a miss, no more.
 *
 * One request, unless it would be too large: the entries, the renewal of fences that need it (fence-renewals.ts), and the release of
 * leases whose load stored nothing, or nothing that lives as long as they do.
 */

import { type VersionStamp, writeEnvelope } from '../protocol/entry.ts';
import type { Plan } from '../protocol/fences.ts';
import { isCurrent, leaseKey } from '../protocol/key-state.ts';
import type { RedisAccess } from '../redis/redis-access.ts';
import { groupsOf, splitKeys } from '../redis/requests.ts';
import type { Runtime } from '../redis/runtime.ts';
import type { Reply, Write } from '../redis/writes.ts';
import { type Lease, releaseLeases, releaseOf } from './lease.ts';
import type { Core } from './loader.ts';
import { type Lifetimes, typeName } from './options.ts';
import type { Encoded } from './serializer.ts';

/** Entries live up to this share shorter than asked, so that what was stored together does not expire together. */
const TTL_JITTER = 0.1;

/** Limits of one request, in writes and UTF-16 units: as quoted UTF-8 it stays below Upstash's 10 MB. */
const MOST_WRITES = 1_000;
const MOST_UNITS = 2_000_000;

/** A value to store, with all that was known before it was loaded. */
export interface LoadedKey {
  readonly plan: Plan;
  /** Null: the fences were not confirmed, so it is not stored. */
  readonly stamp: VersionStamp | null;
  /** Null: JSON would change the value, so it is not stored. */
  readonly encoded: Encoded | null;
  readonly lifetimes: Lifetimes;
  /** Null when it is not ours. */
  readonly lease: Lease | null;
  /**
   * The program knows a newer value than the one before, so that one is deleted if this one is not stored. The lease goes with it that the
   * next reader asks for: the one that the entry was loaded under may last.
   */
  readonly replaces: boolean;
}

/** The longest an entry of this call can be in Redis, in milliseconds. */
export function longestMs({ ttlMs, negativeTtlMs, revalidateMs, errorMs }: Lifetimes): number {
  return Math.max(ttlMs, negativeTtlMs) + Math.max(revalidateMs, errorMs);
}

export interface Stored {
  /** The keys that are in Redis now. */
  readonly stored: ReadonlySet<string>;
  /** The keys whose fences stood, but whose values cannot be cached. */
  readonly uncacheable: ReadonlySet<string>;
}

/** Stores what can be stored. */
export async function store(
  {
    access,
    runtime,
    settings,
    renewals,
    local,
  }: Pick<Core, 'access' | 'runtime' | 'settings' | 'renewals' | 'local'>,
  loaded: readonly LoadedKey[],
): Promise<Stored> {
  const uncacheable = new Set<string>();
  const puts: (Write & { op: 'put' })[] = [];
  const fences: [name: string, value: string, longestMs: number][] = [];
  const ended: Lease[] = [];
  const kept = new Map<string, Lease>();
  for (const item of loaded) {
    const { plan, stamp, lifetimes, lease } = item;
    const entry = entryFor(item, access, runtime);
    const tooLarge = entry !== null && exceedsBytes(entry.value, settings.maxValueBytes);
    if (tooLarge) {
      access.warn(
        'size',
        `a value of type ${typeName(plan)} is larger than ${settings.maxValueBytes} bytes; not cached.`,
      );
    }
    const stores = stamp !== null && entry !== null && !tooLarge;
    if (stamp !== null && !stores) uncacheable.add(plan.key);
    // While an entry is there nobody asks for the lease that it was loaded under.
    const outlived = stores && lease !== null && entry.milliseconds >= lease.milliseconds;
    if (outlived) kept.set(plan.key, lease);
    else if (lease !== null) ended.push(lease);
    if (!stores) continue;
    puts.push(entry);
    plan.fences.forEach((name, index) => {
      fences.push([name, stamp.fences[index] ?? '', longestMs(lifetimes)]);
    });
  }
  const writes = [...puts, ...renewals.due(fences), ...releaseOf(ended, runtime)];
  const written = loaded
    .filter(({ replaces, stamp }) => replaces || stamp !== null)
    .map(({ plan }) => plan.key);
  local?.wrote(written);
  const replies = await send(access, writes);
  const stored = new Set(puts.filter((_, index) => replies[index] === 'OK').map(({ key }) => key));
  const outdated = loaded
    .filter(({ replaces, plan }) => replaces && !stored.has(plan.key))
    .flatMap(({ plan, stamp }) => [plan.key, ...(stamp ? [leaseKey(plan, stamp.fences, null)] : [])]);
  for (const keys of splitKeys(outdated)) await access.write([{ op: 'delete', keys }]);
  local?.wrote(written);
  const refused = [...kept].flatMap(([key, lease]) => (stored.has(key) ? [] : [lease]));
  if (refused.length > 0) runtime.background(releaseLeases(access, runtime, refused));
  return { stored, uncacheable };
}

/** The writes in as few requests as they fit; null for each that Redis did not answer. */
async function send(access: RedisAccess, writes: readonly Write[]): Promise<(Reply | null)[]> {
  const replies: (Reply | null)[] = [];
  const unitsOf = (write: Write) => (write.op === 'put' ? write.value.length : 0);
  for (const request of groupsOf(writes, unitsOf, MOST_UNITS, MOST_WRITES))
    replies.push(...((await access.write(request)) ?? request.map(() => null)));
  return replies;
}

function entryFor(
  { plan, stamp, encoded, lifetimes }: LoadedKey,
  access: RedisAccess,
  runtime: Runtime,
): (Write & { op: 'put' }) | null {
  if (stamp === null || encoded === null) return null;
  const { value, serializer } = encoded;
  const ttlMs = value === null || value === undefined ? lifetimes.negativeTtlMs : lifetimes.ttlMs;
  const freshMs = Math.round(ttlMs * (1 - TTL_JITTER * runtime.random()));
  const windowMs = Math.max(lifetimes.revalidateMs, lifetimes.errorMs);
  if (freshMs < 1) return null;
  // Loaded without a heartbeat, an entry may answer for degradedMs and never again.
  const { degradedMs } = lifetimes;
  const now = runtime.now();
  if (stamp.epoch === null && !isCurrent(stamp, null, degradedMs, now)) return null;
  const freshUntil = now + freshMs;
  const staleAt = windowMs > 0 ? freshUntil : null;
  let text: string;
  try {
    text = writeEnvelope(stamp, value, staleAt, degradedMs, plan.dependencies, serializer, freshUntil);
  } catch {
    // A Proxy or a hidden toJSON may still refuse what `unsupportedIn` could read.
    access.warn('value', `a value of type ${typeName(plan)} cannot be written as JSON; not cached.`);
    return null;
  }
  return { op: 'put', key: plan.key, value: text, milliseconds: freshMs + windowMs };
}

function exceedsBytes(text: string, limit: number): boolean {
  // A UTF-16 unit is one to three bytes of UTF-8, so most texts need no counting.
  if (text.length > limit) return true;
  return text.length * 3 > limit && new TextEncoder().encode(text).length > limit;
}
