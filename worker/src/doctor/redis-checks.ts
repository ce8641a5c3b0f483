/**
 * The Redis side of `doctor`: reachable, allowed to write, not evicting what must stay, a heartbeat that beats.
 */

import { EPOCH_KEY, HEARTBEAT_KEY } from '../../../supabase/functions/_shared/heartbeat.ts';
import { PROBE_KEY } from '../apply/apply.ts';
import type { CacheServer } from '../apply/upstash.ts';
import type { Configuration } from '../configuration.ts';
import { describe } from '../errors.ts';
import { type Finding, fail, ok, warn } from './finding.ts';

const SLOW_MS = 100;

export async function checkRedisSide(cache: CacheServer, configuration: Configuration): Promise<Finding[]> {
  const prefix = configuration.cachePrefix;
  const startedAt = performance.now();
  try {
    await cache.ping();
  } catch (error) {
    return [
      fail(
        'redis',
        describe(error),
        'Mend UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN, then run doctor again.',
      ),
    ];
  }
  const ms = Math.round(performance.now() - startedAt);
  const findings: Finding[] = [
    ms <= SLOW_MS
      ? ok('redis', `answers in ${ms} ms`)
      : warn('redis', `answers in ${ms} ms`, 'Run the worker in the region of the Upstash database.'),
  ];
  findings.push(await checkWriting(cache, prefix));
  findings.push(await checkEviction(cache));
  findings.push(await checkHeartbeat(cache, prefix));
  return findings;
}

async function checkWriting(cache: CacheServer, prefix: string): Promise<Finding> {
  try {
    await cache.del([`${prefix}${PROBE_KEY}`]);
    return ok('redis may be written', 'the token may delete');
  } catch (error) {
    return fail(
      'redis may be written',
      describe(error),
      'Use the standard token of the Upstash console, not the read-only one.',
    );
  }
}

async function checkEviction(cache: CacheServer): Promise<Finding> {
  let info: string;
  try {
    info = await cache.info();
  } catch {
    return warn(
      'eviction',
      'the server does not tell',
      'Look at "Eviction" in the Upstash console; off is better, on costs hit rate.',
    );
  }
  const field = (name: string) => new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1];
  const policy = field('maxmemory_policy') ?? 'noeviction';
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
          `${full}, policy ${policy}`,
          'Evicted fences cost hit rate, not truth; raise the limit.',
        );
  }
  return policy.startsWith('allkeys')
    ? warn(
        'eviction',
        `policy ${policy}: fences, the epoch and the heartbeat may be evicted too`,
        'It costs hit rate, not truth; prefer eviction off, or a volatile policy.',
      )
    : ok('eviction', `policy ${policy}`);
}

async function checkHeartbeat(cache: CacheServer, prefix: string): Promise<Finding> {
  const [heartbeat, epoch] = await cache.getMany([prefix + HEARTBEAT_KEY, prefix + EPOCH_KEY]);
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
