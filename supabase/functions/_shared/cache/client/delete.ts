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
import type { RedisAccess } from '../redis/redis-access.ts';
import { splitKeys } from '../redis/requests.ts';

/** One DEL for up to thousands of keys. @throws CacheError INVALID_KEY as checkKey does */
export async function deleteKeys(access: RedisAccess, keys: readonly string[]): Promise<number | null> {
  for (const key of keys) checkKey(key);
  return deleteNames(access, keys.flatMap(deletionsForKey));
}

/** One DEL, or a sweep, as the glob asks for. */
export async function deletePattern(access: RedisAccess, glob: string): Promise<number | null> {
  const { keys, newEpoch, sweep: swept } = deletionsFor(glob);
  // Without the epoch every entry is a miss; without the heartbeat the worker notices, and starts an epoch of its own.
  if (newEpoch) return deleteNames(access, [EPOCH_KEY, HEARTBEAT_KEY]);
  const deleted = await deleteNames(access, keys);
  if (swept === null || deleted === null) return deleted;
  try {
    return await sweep(sweepConnection(access), swept);
  } catch (error) {
    if (error instanceof CacheError && error.code === 'REDIS_UNREACHABLE') return null;
    throw error;
  }
}

async function deleteNames(access: RedisAccess, names: readonly string[]): Promise<number | null> {
  if (names.length === 0) return 0;
  let deleted = 0;
  for (const some of splitKeys(new Set(names))) {
    const [reply] = (await access.write([{ op: 'delete', keys: some }])) ?? [];
    if (typeof reply !== 'number') return null;
    deleted += reply;
  }
  return deleted;
}

function sweepConnection(access: RedisAccess): SweepConnection {
  return {
    scan: async (cursor, glob, count) => (await access.scan(cursor, glob, count)) ?? unacknowledged(),
    delete: async (names) => (await deleteNames(access, names)) ?? unacknowledged(),
  };
}

function unacknowledged(): never {
  throw new CacheError('REDIS_UNREACHABLE', 'Redis did not acknowledge a page of a sweep; run it again.');
}
