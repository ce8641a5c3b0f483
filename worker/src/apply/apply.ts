/**
 * Applies targets to Redis: what each must delete, coalesced over the batch, in as few DELs as Upstash's limits allow.
 *
 * Promises: when `apply` resolves, Redis has confirmed every key of every target that is not in `refused`. When it
 * rejects, nothing may be assumed, and applying the same targets again is right. Deleting is idempotent, so a target
 * applied twice, late, or by two workers at once costs a miss and nothing else.
 */
import { deletionsFor } from '../../../supabase/functions/_shared/fences.ts';
import { splitKeys } from './split.ts';
import type { CacheServer } from './upstash.ts';
import { classify, UpstashFailure } from './upstash-errors.ts';

export interface Applied {
  /** Targets that Redis refuses for their own sake, found by bisection; all others are confirmed. */
  readonly refused: ReadonlyMap<string, UpstashFailure>;
  /** Targets that name keys by a pattern which no fence covers; they are for the sweeper. */
  readonly sweeps: readonly string[];
  /** Keys deleted (or already absent), after coalescing. */
  readonly keys: number;
}

export interface ApplyParts {
  readonly cache: CacheServer;
  readonly prefix: string;
  /** Starts a new epoch and resolves when Redis has it: the whole cache, invalidated. */
  startEpoch(): Promise<void>;
}

/** More refusals than this in one batch are no matter of single targets: Redis is then as good as away. */
const REFUSED_MOST = 64;

/**
 * @param targets distinct
 * @throws UpstashFailure of course `wait`: Redis is away; the caller tries all of them again later
 */
export async function apply(parts: ApplyParts, targets: readonly string[]): Promise<Applied> {
  const keysOf = new Map<string, readonly string[]>();
  const sweeps: string[] = [];
  let newEpoch = false;
  for (const target of targets) {
    const deletions = deletionsFor(target);
    if (deletions.newEpoch) newEpoch = true;
    if (deletions.sweep !== null) sweeps.push(target);
    if (deletions.keys.length > 0) keysOf.set(target, deletions.keys);
  }
  // A new epoch makes every entry unreadable, so the rest of the batch is applied by it as well.
  if (newEpoch) {
    await parts.startEpoch();
    return { refused: new Map(), sweeps: [], keys: 0 };
  }
  const refused = new Map<string, UpstashFailure>();
  const keys = await deleteKeys(parts, keysOf, refused);
  return { refused, sweeps, keys };
}

async function deleteKeys(
  parts: ApplyParts,
  keysOf: ReadonlyMap<string, readonly string[]>,
  refused: Map<string, UpstashFailure>,
): Promise<number> {
  const keys = new Set<string>();
  for (const list of keysOf.values()) for (const key of list) keys.add(parts.prefix + key);
  try {
    const groups = splitKeys(keys);
    if (groups.length === 1 && groups[0] !== undefined) await parts.cache.del(groups[0]);
    else await Promise.all(groups.map((group) => parts.cache.del(group)));
    return keys.size;
  } catch (error) {
    const failure = classify(error);
    if (failure.course === 'wait') throw failure;
    if (refused.size >= REFUSED_MOST)
      throw new UpstashFailure(failure.code, failure.message, 'wait', failure.exitCode);
    if (keysOf.size <= 1) {
      for (const target of keysOf.keys()) refused.set(target, failure);
      return 0;
    }
    // Half by half until the one that Redis refuses stands alone: 2·log2(n) requests for one culprit.
    const entries = [...keysOf];
    const middle = entries.length >> 1;
    const first = await deleteKeys(parts, new Map(entries.slice(0, middle)), refused);
    const second = await deleteKeys(parts, new Map(entries.slice(middle)), refused);
    return first + second;
  }
}
