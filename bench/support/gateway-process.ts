/** The gateway in a process of its own; sends its address to the parent. */
import { startGateway } from '../../local/gateway/gateway.ts';

const gateway = await startGateway({
  redisUrl: process.env.REDIS_URL ?? '',
  token: process.env.TOKEN ?? '',
});
process.on('message', (message) => {
  if (message === 'count') process.send?.(gateway.commandCount());
});
process.on('disconnect', () => process.exit());
process.send?.(gateway.url);
