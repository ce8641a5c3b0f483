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

/** Never exists: deleting it is the one command that only a server in trouble refuses. */
export const PROBE_KEY = 'fencepost:probe';

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
  try {
    return await deleteAll(parts, keys);
  } catch (error) {
    const failure = classify(error);
    if (failure.course === 'wait') throw failure;
    await proveWilling(parts, failure);
    if (refused.size >= REFUSED_MOST) throw asAway(failure);
    // Half by half until the one that Redis refuses stands alone: 4·log2(n) requests for one culprit.
    const middle = targets.length >> 1;
    if (middle === 0) return await deleteOrRefuse(parts, targets, keys, refused);
    let deleted = 0;
    for (const half of [targets.slice(0, middle), targets.slice(middle)]) {
      deleted += await deleteKeys(parts, half, planOf(half).keys, refused);
    }
    return deleted;
  }
}

/** The last word on a single target: refused again by a server that has just proved willing, it is set aside. */
async function deleteOrRefuse(
  parts: ApplyParts,
  targets: readonly string[],
  keys: readonly string[],
  refused: Map<string, UpstashFailure>,
): Promise<number> {
  try {
    return await deleteAll(parts, keys);
  } catch (error) {
    const failure = classify(error);
    if (failure.course === 'wait') throw failure;
    for (const target of targets) refused.set(target, failure);
    return 0;
  }
}

async function deleteAll(parts: ApplyParts, keys: readonly string[]): Promise<number> {
  const physical = parts.prefix === '' ? keys : keys.map((key) => parts.prefix + key);
  const groups = splitKeys(physical);
  if (groups.length === 1 && groups[0] !== undefined) await parts.cache.del(groups[0]);
  else await Promise.all(groups.map((group) => parts.cache.del(group)));
  return keys.length;
}

/**
 * Whether a refusal is the command's own fault or the server's: a proxy whose Redis is away says `ERR …` as well. A
 * server that refuses to delete a key that never exists is as good as away, whatever its words; the rows then stay.
 */
async function proveWilling(parts: ApplyParts, refusal: UpstashFailure): Promise<void> {
  try {
    await parts.cache.del([`${parts.prefix}${PROBE_KEY}`]);
  } catch (error) {
    const failure = classify(error);
    throw failure.course === 'wait' ? failure : asAway(refusal);
  }
}

function asAway(refusal: UpstashFailure): UpstashFailure {
  return new UpstashFailure(
    'UPSTASH_SERVER_ERROR',
    'The server at UPSTASH_REDIS_REST_URL refuses every command: check that its Redis is up and that the token may write; trying again.',
    'wait',
    refusal.exitCode,
  );
}
