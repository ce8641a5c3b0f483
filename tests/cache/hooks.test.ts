/** An application's own hooks may fail; no reader notices. */
import { expect, it } from 'vitest';
import { startGateway } from '../../local/gateway/gateway.ts';
import { startRedis } from '../../local/parts/redis.ts';
import { createCache } from '../../supabase/functions/_shared/cache.ts';

const fail = () => {
  throw new Error('the hook is broken');
};

it('answers though onOutcome throws, and leaves no load behind that later readers would wait for', async () => {
  const redis = await startRedis();
  const gateway = await startGateway({ redisUrl: redis.url, token: 'hooks' });
  try {
    const cache = createCache({ url: gateway.url, token: gateway.token });
    const load = async (missing: readonly string[]) => new Map(missing.map((key) => [key, key]));
    const first = await cache.getOrSetMany(['a:1', 'b:1'], load, 60, { onOutcome: fail });
    expect(first.get('b:1')).toBe('b:1');
    expect(await cache.getOrSet('a:1', () => 'again')).toBe('a:1');
  } finally {
    await gateway.stop();
    await redis.stop();
  }
});

it('answers though the log throws', async () => {
  const cache = createCache({ url: 'http://127.0.0.1:9', token: 'hooks', log: fail });
  expect(await cache.get('a:1')).toBeNull();
  expect(await cache.getOrSet('a:1', () => 'loaded')).toBe('loaded');
  expect(await createCache({ url: 'no address', token: 'hooks', log: fail }).getOrSet('a:1', () => 1)).toBe(
    1,
  );
});
