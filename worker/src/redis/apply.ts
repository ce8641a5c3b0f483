/**
 * Applies targets to Redis: what each must delete, coalesced over the batch, in as few DELs as Upstash's limits allow.
 *
 * Promises: when `apply` resolves, Redis has confirmed every key of every target that is neither in `refused` nor in
 * `undecided`. When it rejects, nothing may be assumed, and applying the same targets again is right. Deleting is
 * idempotent, so a target applied twice, late, or by two workers at once costs a miss and nothing else.
 *
 * ## When Redis refuses a DEL
 *
 *     refused as a whole ── the probe is taken: the server is willing ──▶ halved, the larger parts first ──▶ taken | refused alone
 *
 * A refusal counts only from a server that proves willing, before the first half is sent and again after the last: a
 * proxy whose Redis is away says `ERR …` as well. Halving is paid from an allowance of requests (allowance.ts). When
 * that is used up, what has not been taken yet is `undecided`, and for the queue to go on with: the page ends, and the
 * next ones with it. The targets are sorted first, so that what lies under one refused name lies together, and the
 * larger parts come first, so that the others are taken with the first few requests.
 */
import { deletionsFor } from '../../../supabase/functions/_shared/cache/protocol/fences.ts';
import { classify, UpstashFailure } from './errors.ts';
import type { Allowance } from './token-bucket.ts';
import type { CacheServer } from './upstash.ts';

export interface Applied {
  /** Targets that Redis refuses for their own sake, found by halving. */
  readonly refused: ReadonlyMap<string, UpstashFailure>;
  /** Targets of which some are refused, when the allowance did not suffice to say which; never of a single target. */
  readonly undecided: readonly string[];
  /** Targets that name keys by a pattern which no fence covers; they are for the sweeper. */
  readonly sweeps: readonly string[];
  /** Keys deleted (or already absent), after coalescing. */
  readonly keys: number;
}

export interface ApplyParts {
  readonly cache: CacheServer;
  /** Requests that may be spent on telling refused targets from the others. */
  readonly isolating: Allowance;
  /** Starts a new epoch and resolves when Redis has it: the whole cache, invalidated. */
  startEpoch(): Promise<void>;
}

/** Never exists: deleting it is the one command that only a server in trouble refuses. */
export const PROBE_KEY = 'fencepost:probe';

/**
 * @param targets distinct
 * @throws UpstashFailure of course `wait`: Redis is away; the caller tries all of them again later
 */
export async function apply(parts: ApplyParts, targets: readonly string[]): Promise<Applied> {
  const plan = planOf(targets);
  // A new epoch makes every entry unreadable, so the rest of the batch is applied by it as well.
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
    return { ...(await isolate(parts, targets, refusal)), sweeps: plan.sweeps };
  }
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

/** Applies targets of which at least one is refused. @throws UpstashFailure of course `wait` */
async function isolate(
  parts: ApplyParts,
  targets: readonly string[],
  refusal: UpstashFailure,
): Promise<Omit<Applied, 'sweeps'>> {
  await proveWilling(parts, refusal);
  const refused = new Map<string, UpstashFailure>();
  // Refused once, a single target has its last chance with the server that has just proved willing.
  const groups = targets.length === 1 ? [targets] : halves(targets.toSorted());
  let keys = 0;
  while (groups.length > 0 && (targets.length === 1 || parts.isolating.take())) {
    const group = groups.shift() ?? [];
    try {
      keys += await deleteAll(parts, planOf(group).keys);
    } catch (error) {
      const failure = classify(error);
      if (failure.course === 'wait') throw failure;
      const [target] = group;
      if (group.length > 1) groups.push(...halves(group));
      else if (target !== undefined) refused.set(target, failure);
    }
  }
  if (refused.size > 0) await proveWilling(parts, refusal);
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
 * Whether a refusal is the command's own fault or the server's: a proxy whose Redis is away says `ERR …` as well. A
 * server that refuses to delete a key that never exists is as good as away, whatever its words; the rows then stay.
 */
async function proveWilling(parts: ApplyParts, refusal: UpstashFailure): Promise<void> {
  try {
    await parts.cache.del([PROBE_KEY]);
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
