/** Redis and the gateway in a process of their own, so that they share no event loop with what is measured. */
import { startGateway } from '../../local/gateway/gateway.ts';
import { startRedis } from '../../local/parts/redis.ts';

const redis = await startRedis();
const gateway = await startGateway({ redisUrl: redis.url, token: 'bench-token' });
process.once('disconnect', async () => {
  await gateway.stop();
  await redis.stop();
  process.exit(0);
});
process.send?.({ url: gateway.url, token: gateway.token });
