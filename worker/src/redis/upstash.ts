/**
 * The worker's connection to Redis: the adapter that the cache uses too, with failures classified (errors.ts) and every command
 * counted.
 */
import { Upstash } from '../../../supabase/functions/_shared/cache/redis/upstash.ts';
import type { Configuration } from '../lib/config.ts';
import { classify } from './errors.ts';

export type CacheServer = Upstash;

/** @param observe told of every command that is sent, for counting what Upstash bills */
export function connectUpstash(
  {
    upstashUrl: url,
    upstashToken: token,
    cachePrefix: prefix,
    upstashTimeoutMs: timeout,
  }: Pick<Configuration, 'upstashUrl' | 'upstashToken' | 'cachePrefix' | 'upstashTimeoutMs'>,
  observe?: (command: string) => void,
): CacheServer {
  return new Upstash({ url, token, prefix, timeout, observe, explain: classify });
}
