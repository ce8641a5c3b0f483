/**
 * Deleting by hand: del and delPattern. Most applications never need them: the worker does this for every committed write to a
 * watched table.
 *
 *   Rule 4  The reply to the DEL of the fences is the acknowledgement; deleting the entries only saves memory. So each function here
 *           answers null when there was no such reply. Then nothing is promised, and the call may be repeated.
 */

import { EPOCH_KEY, HEARTBEAT_KEY } from '../protocol/epoch.ts';
import { CacheError } from '../protocol/errors.ts';
import { checkKey, deletionsFor, deletionsForKey } from '../protocol/fences.ts';
import { type SweepConnection, sweep } from '../protocol/sweep.ts';
import { splitKeys } from '../redis/requests.ts';
import type { Write } from '../redis/writes.ts';
import type { Core } from './loader.ts';

type Deleting = Pick<Core, 'access' | 'recentReads'>;

/**
 * One DEL for the fences of up to thousands of keys, and one for the entries.
 * @returns how many entries there were
 * @throws CacheError INVALID_KEY as checkKey does
 */
export async function deleteKeys(core: Deleting, keys: readonly string[]): Promise<number | null> {
  for (const key of keys) checkKey(key);
  const entries = new Set(keys);
  const fences = new Set(keys.flatMap(deletionsForKey).filter((name) => !entries.has(name)));
  const deletions = [fences, entries].map((names) => splitKeys(names).map(deletionOf));
  const all = deletions.flat();
  // What does not fit one DEL of each kind goes one DEL a request.
  const requests = all.length <= 2 ? [all] : all.map((deletion) => [deletion]);
  core.recentReads.deleted(fences);
  const counts: number[] = [];
  for (const request of requests) {
    for (const reply of (await core.access.write(request)) ?? [null]) {
      if (typeof reply !== 'number') return null;
      counts.push(reply);
    }
  }
  core.recentReads.deleted(fences);
  return counts.slice(deletions[0]?.length).reduce((sum, some) => sum + some, 0);
}

/** One DEL, or a sweep, as the glob asks for. @returns how many entries went; undefined where they are left behind their fence */
export async function deletePattern(core: Deleting, glob: string): Promise<number | undefined | null> {
  const { keys, newEpoch, sweep: swept } = deletionsFor(glob);
  // Without the epoch every entry is a miss; without the heartbeat the worker notices, and starts an epoch of its own.
  const deleted = await deleteNames(core, newEpoch ? [EPOCH_KEY, HEARTBEAT_KEY] : keys);
  if (deleted === null) return null;
  if (swept === null) return undefined;
  try {
    return await sweep(sweepConnection(core), swept);
  } catch (error) {
    if (error instanceof CacheError && error.code === 'REDIS_UNREACHABLE') return null;
    throw error;
  }
}

async function deleteNames(
  { access, recentReads }: Deleting,
  names: readonly string[],
): Promise<number | null> {
  recentReads.deleted(names);
  let deleted = 0;
  for (const some of splitKeys(new Set(names))) {
    const [reply] = (await access.write([deletionOf(some)])) ?? [];
    if (typeof reply !== 'number') return null;
    deleted += reply;
  }
  recentReads.deleted(names);
  return deleted;
}

function deletionOf(keys: string[]): Write {
  return { op: 'delete', keys };
}

function sweepConnection(core: Deleting): SweepConnection {
  return {
    scan: async (cursor, glob, count) => (await core.access.scan(cursor, glob, count)) ?? unacknowledged(),
    delete: async (names) => (await deleteNames(core, names)) ?? unacknowledged(),
  };
}

function unacknowledged(): never {
  throw new CacheError('REDIS_UNREACHABLE', 'Redis did not acknowledge a page of a sweep; run it again.');
}
