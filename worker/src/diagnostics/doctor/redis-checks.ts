/**
 * The Redis side of `doctor`: reachable, allowed to write, not evicting what must stay, a heartbeat that beats.
 */

import { EPOCH_KEY, HEARTBEAT_KEY } from '../../../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { describe, ExitCode } from '../../lib/errors.ts';
import { UpstashFailure } from '../../redis/errors.ts';
import type { CacheServer } from '../../redis/upstash.ts';
import { type Finding, fail, ok, warn } from './finding.ts';

const SLOW_MS = 100;
const DOCTOR_KEY = 'fencepost:doctor';

export async function checkRedisSide(cache: CacheServer): Promise<Finding[]> {
  const startedAt = performance.now();
  try {
    await cache.ping();
  } catch (error) {
    return [fail('redis', describe(error), 'Mend this first, then run doctor again.')];
  }
  const ms = Math.round(performance.now() - startedAt);
  const findings: Finding[] = [
    ms <= SLOW_MS
      ? ok('redis', `answers in ${ms} ms`)
      : warn('redis', `answers in ${ms} ms`, 'Run the worker in the region of the Upstash database.'),
  ];
  for (const [name, check] of [
    ['redis rights', checkRights],
    ['eviction', checkEviction],
    ['heartbeat', checkHeartbeat],
  ] as const) {
    try {
      findings.push(await check(cache));
    } catch (error) {
      findings.push(
        fail(name, `could not be checked: ${describe(error)}`, 'Mend this, then run doctor again.'),
      );
    }
  }
  return findings;
}

/** Every command that the worker and its command line send, on a key of doctor's own that expires at once. */
async function checkRights(cache: CacheServer): Promise<Finding> {
  const key = DOCTOR_KEY;
  const commands: [string, () => Promise<unknown>][] = [
    ['DEL', () => cache.del([key])],
    ['SET', () => cache.set(key, 'doctor', 1)],
    ['MULTI', () => cache.setTogether([{ key, value: 'doctor', seconds: 1 }])],
    ['GETEX', () => cache.getAndRenew(key, 1)],
    ['GET', () => cache.get(key)],
    ['MGET', () => cache.getMany([key])],
    ['SCAN', () => cache.scan('0', key, 10)],
    ['HVALS', () => cache.hashValues(`${key}:hash`)],
    ['HSET or EXPIRE', () => cache.record(`${key}:hash`, 'doctor', '{}', 1)],
  ];
  const refused: string[] = [];
  let reason: unknown;
  for (const [name, command] of commands) {
    try {
      await command();
    } catch (error) {
      reason ??= error;
      refused.push(name);
    }
  }
  if (refused.length === 0) return ok('redis rights', 'the token may do what the worker does');
  // A right that lacks is told by its command; anything else by what it is.
  const lacks = reason instanceof UpstashFailure && reason.exitCode === ExitCode.denied;
  return fail(
    'redis rights',
    lacks ? `the token may not ${refused.join(', ')}` : `${refused.join(', ')}: ${describe(reason)}`,
    lacks
      ? 'Use the standard token of the Upstash console, or widen its ACL to these commands and all keys.'
      : 'Mend this, then run doctor again.',
  );
}

async function checkEviction(cache: CacheServer): Promise<Finding> {
  let info: string;
  try {
    info = await cache.info();
  } catch {
    return unknownEviction();
  }
  const field = (name: string) => new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1];
  const policy = field('maxmemory_policy');
  const limit = Number(field('maxmemory') ?? 0);
  const used = Number(field('used_memory') ?? 0);
  if (limit > 0 && used > 0.9 * limit) {
    const full = `${Math.round((100 * used) / limit)} % of the memory is used`;
    return policy === 'noeviction'
      ? fail(
          'eviction',
          `${full} and nothing is evicted: writes will be refused`,
          'Raise the limit, or lower the TTLs.',
        )
      : warn(
          'eviction',
          `${full}, policy ${policy ?? 'unknown'}`,
          'Evicted fences cost hit rate, not truth; raise the limit.',
        );
  }
  if (policy === undefined) return unknownEviction();
  return policy.startsWith('allkeys')
    ? warn(
        'eviction',
        `policy ${policy}: fences, the epoch and the heartbeat may be evicted too`,
        'It costs hit rate, not truth; prefer eviction off, or a volatile policy.',
      )
    : ok('eviction', `policy ${policy}`);
}

function unknownEviction(): Finding {
  return warn(
    'eviction',
    'the server does not tell its policy',
    'Look at "Eviction" in the Upstash console; off is better, on costs hit rate.',
  );
}

async function checkHeartbeat(cache: CacheServer): Promise<Finding> {
  const [heartbeat, epoch] = await cache.getMany([HEARTBEAT_KEY, EPOCH_KEY]);
  if (heartbeat == null) {
    return warn(
      'heartbeat',
      'missing: readers trust only answers younger than 30 s',
      'Start a worker with "fencepost run"; is CACHE_PREFIX the same everywhere?',
    );
  }
  if (heartbeat === epoch) return ok('heartbeat', 'alive');
  return warn(
    'heartbeat',
    'alive, but the epoch was evicted or changed: readers trust only answers younger than 30 s',
    'The worker notices within five minutes; "fencepost invalidate \'*\'" mends it at once.',
  );
}
