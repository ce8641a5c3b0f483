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
  const plan = planOf(targets);
  // A new epoch makes every entry unreadable, so the rest of the batch is applied by it as well.
  if (plan.newEpoch) {
    await parts.startEpoch();
    return { refused: new Map(), sweeps: [], keys: 0 };
  }
  const refused = new Map<string, UpstashFailure>();
  const keys = await deleteKeys(parts, targets, plan.keys, refused);
  return { refused, sweeps: plan.sweeps, keys };
}

interface Plan {
  readonly keys: string[];
  readonly sweeps: string[];
  readonly newEpoch: boolean;
}

/** What the targets delete, together. This runs for every row of a backlog: it allocates little. */
function planOf(targets: readonly string[]): Plan {
  const keys: string[] = [];
  const sweeps: string[] = [];
  let newEpoch = false;
  // Only targets of three segments and more share fences with one another.
  const shared = new Set<string>();
  for (const target of targets) {
    const deletions = deletionsFor(target);
    if (deletions.newEpoch) newEpoch = true;
    if (deletions.sweep !== null) sweeps.push(target);
    if (deletions.keys.length <= 2) keys.push(...deletions.keys);
    else {
      for (const key of deletions.keys) {
        if (shared.has(key)) continue;
        shared.add(key);
        keys.push(key);
      }
    }
  }
  return { keys, sweeps, newEpoch };
}

async function deleteKeys(
  parts: ApplyParts,
  targets: readonly string[],
  keys: readonly string[],
  refused: Map<string, UpstashFailure>,
): Promise<number> {
  const physical = parts.prefix === '' ? keys : keys.map((key) => parts.prefix + key);
  try {
    const groups = splitKeys(physical);
    if (groups.length === 1 && groups[0] !== undefined) await parts.cache.del(groups[0]);
    else await Promise.all(groups.map((group) => parts.cache.del(group)));
    return keys.length;
  } catch (error) {
    const failure = classify(error);
    if (failure.course === 'wait') throw failure;
    if (refused.size >= REFUSED_MOST) {
      throw new UpstashFailure(failure.code, failure.message, 'wait', failure.exitCode);
    }
    if (targets.length <= 1) {
      for (const target of targets) refused.set(target, failure);
      return 0;
    }
    // Half by half until the one that Redis refuses stands alone: 2·log2(n) requests for one culprit.
    const middle = targets.length >> 1;
    let deleted = 0;
    for (const half of [targets.slice(0, middle), targets.slice(middle)]) {
      deleted += await deleteKeys(parts, half, planOf(half).keys, refused);
    }
    return deleted;
  }
}
