/**
 * A Redis and the gateway in front of it, which take Upstash's place:
 *
 *     const upstash = useUpstash();                                                  // for all tests of a file or a describe
 *     const upstash = await startUpstash();  onTestFinished(upstash.stop);           // for one test
 */
import { afterAll, beforeAll } from 'vitest';
import { type GatewayOptions, type GatewayPart, startGateway } from '../../local/gateway/gateway.ts';
import { type RedisOptions, type RedisPart, startRedis } from '../../local/parts/redis.ts';

export interface Upstash {
  readonly redis: RedisPart;
  readonly gateway: GatewayPart;
}

export interface UpstashOptions {
  readonly redis?: RedisOptions;
  readonly gateway?: Partial<GatewayOptions>;
}

export const TOKEN = 'upstash-token';

export async function startUpstash(
  options: UpstashOptions = {},
): Promise<Upstash & { stop(): Promise<void> }> {
  const redis = await startRedis(options.redis);
  const gateway = await startGateway({ token: TOKEN, ...options.gateway, redisUrl: redis.url });
  const stop = async () => {
    await gateway.stop();
    await redis.stop();
  };
  return { redis, gateway, stop };
}

/** Registers the hooks. Its parts are there from then on, for later hooks too, until the last of those has run. */
export function useUpstash(options: UpstashOptions = {}): Upstash {
  const upstash: Partial<Awaited<ReturnType<typeof startUpstash>>> = {};
  beforeAll(async () => {
    Object.assign(upstash, await startUpstash(options));
  });
  afterAll(() => upstash.stop?.());
  return upstash as Upstash;
}
