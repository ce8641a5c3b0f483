import { expect, it } from 'vitest';
import { UpstashFailure } from '../redis/errors.ts';
import { TokenBucket } from '../redis/token-bucket.ts';
import type { CacheServer } from '../redis/upstash.ts';
import { createProcessors } from './processors.ts';

/** Redis refuses SCAN; @param serves whether it deletes the probe key all the same */
function sweepWhere(serves: boolean) {
  const refusal = new UpstashFailure('UPSTASH_SERVER_ERROR', 'Refused.', 'bisect');
  const processors = createProcessors({
    cache: {
      scan: () => Promise.reject(refusal),
      del: () => (serves ? Promise.resolve(0) : Promise.reject(refusal)),
    } as unknown as CacheServer,
    replicaLagMs: 0,
    tokens: new TokenBucket(),
    startEpoch: async () => undefined,
    audit: async () => undefined,
    prune: async () => 0,
    add: async () => undefined,
  });
  return processors.sweep({ pattern: 'a*:b:*' }, { save: async () => undefined });
}

it('a sweep that a server in trouble refuses has not failed: it waits', async () => {
  await expect(sweepWhere(false)).rejects.toMatchObject({ course: 'wait' });
  await expect(sweepWhere(true)).rejects.toMatchObject({ course: 'bisect' });
});
