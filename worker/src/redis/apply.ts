/**
 * Applies targets to Redis: deletes the entries and fences that they name, all together, in as few DELs as possible.
 *
 * When `apply` resolves, Redis has confirmed every key of every target that is neither in `refused` nor in `undecided`. When it
 * rejects, nothing may be assumed, and the caller applies the same targets again. That is always right: a target that is applied
 * twice, late, or by two workers at once costs a cache miss.
 *
 * When Redis refuses a DEL, apply bisects the targets:
 *
 *     refused ── the server deletes the probe key ──▶ split in two halves, the larger groups first ──▶ deleted | refused alone
 *
 * - A refusal counts only if the server deletes the probe key, before the first half is sent and after the last. A proxy whose
 *   Redis is away also answers `ERR …`; then the rows have to wait.
 * - Each half takes a token. When none is left, the remaining targets are `undecided`, and the queue goes on with them.
 * - Targets are sorted first, so that those that are refused for one prefix lie together. The larger groups come first, so that
 *   most targets are deleted by the first few requests.
 */
import { deletionsFor } from '../../../supabase/functions/_shared/cache/protocol/fences.ts';
import { ExitCode } from '../lib/errors.ts';
import { classify, refusalOfTarget, refusesAll, UpstashFailure } from './errors.ts';
import type { TokenBucket } from './token-bucket.ts';
import type { CacheServer } from './upstash.ts';

export interface Applied {
  /** Targets that Redis refuses, each found alone. */
  readonly refused: ReadonlyMap<string, UpstashFailure>;
  /** Some of these are refused; there were not enough tokens to find which. Empty when apply got a single target. */
  readonly undecided: readonly string[];
  /** Patterns that no fence covers; the queue sweeps them. */
  readonly sweeps: readonly string[];
  /** Distinct keys that were deleted, or did not exist. */
  readonly keys: number;
}

export interface ApplyParts {
  readonly cache: CacheServer;
  /** For the requests of bisecting. */
  readonly tokens: TokenBucket;
  /** Starts a new epoch, which invalidates the whole cache; resolves when Redis has it. */
  startEpoch(): Promise<void>;
}

/** A key that never exists: only a failing server refuses to delete it. */
export const PROBE_KEY = 'fencepost:probe';

/**
 * @param targets distinct
 * @throws UpstashFailure of course `wait` when Redis is away
 */
export async function apply(parts: ApplyParts, targets: readonly string[]): Promise<Applied> {
  const plan = planOf(targets);
  // A new epoch makes every entry unreadable, those of the other targets too.
  if (plan.newEpoch) {
    await parts.startEpoch();
    return { refused: new Map(), undecided: [], sweeps: [], keys: 0 };
  }
  try {
    const keys = await deleteAll(parts, plan.keys);
    return { refused: new Map(), undecided: [], sweeps: plan.sweeps, keys };
  } catch (error) {
    const refusal = classify(error);
    if (refusal.course === 'wait') throw refusal;
    return { ...(await bisect(parts, targets)), sweeps: plan.sweeps };
  }
}

interface Plan {
  readonly keys: string[];
  readonly sweeps: string[];
  readonly newEpoch: boolean;
}

/** What the targets delete together. It runs for every row of a backlog, so it allocates little. */
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

/** Applies targets of which at least one is refused. @throws UpstashFailure of course `wait` */
async function bisect(parts: ApplyParts, targets: readonly string[]): Promise<Omit<Applied, 'sweeps'>> {
  await deleteProbe(parts.cache);
  const refused = new Map<string, UpstashFailure>();
  // A single target gets one more attempt, now that the server has deleted the probe key.
  const groups = targets.length === 1 ? [targets] : halves(targets.toSorted());
  let keys = 0;
  while (groups.length > 0 && (targets.length === 1 || parts.tokens.take())) {
    const group = groups.shift() ?? [];
    try {
      keys += await deleteAll(parts, planOf(group).keys);
    } catch (error) {
      const failure = classify(error);
      if (failure.course === 'wait') throw failure;
      const [target] = group;
      if (group.length > 1) groups.push(...halves(group));
      else if (target !== undefined) refused.set(target, refusalOfTarget(failure));
    }
  }
  if (refused.size > 0) await deleteProbe(parts.cache);
  return { refused, undecided: groups.flat(), keys };
}

function halves(targets: readonly string[]): (readonly string[])[] {
  const middle = targets.length >> 1;
  return [targets.slice(0, middle), targets.slice(middle)];
}

async function deleteAll(parts: ApplyParts, keys: readonly string[]): Promise<number> {
  await parts.cache.del(keys);
  return keys.length;
}

/**
 * Proves that the server serves: deletes a key that never exists.
 *
 * @throws UpstashFailure of course `wait` when it does not
 */
export async function deleteProbe(cache: Pick<CacheServer, 'del'>): Promise<void> {
  try {
    await cache.del([PROBE_KEY]);
  } catch (error) {
    const failure = classify(error);
    if (failure.course === 'wait') throw failure;
    const { code, message, exitCode } = failure;
    // An ACL that leaves out even this key.
    throw exitCode === ExitCode.denied ? new UpstashFailure(code, message, 'wait', exitCode) : refusesAll();
  }
}
