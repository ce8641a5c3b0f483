/** Many targets that Redis refuses: an access list without a whole type. */
import { createClient } from 'redis';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { type GatewayPart, startGateway } from '../../local/gateway/gateway.ts';
import { asleep, killAllWorkers, startWorkerProcess } from './support/worker-process.ts';
import { fenceOf, startWorkerStack, TOKEN, type WorkerStack } from './support/worker-stack.ts';

let stack: WorkerStack;
let gateway: GatewayPart;
let admin: ReturnType<typeof createClient>;
beforeAll(async () => {
  stack = await startWorkerStack();
  admin = createClient({ url: stack.redis.url });
  admin.on('error', () => undefined);
  await admin.connect();
  await allow('~*');
  const narrow = new URL(stack.redis.url);
  narrow.username = 'narrow';
  narrow.password = 'pw';
  gateway = await startGateway({ redisUrl: narrow.href, token: TOKEN });
});
afterEach((test) => killAllWorkers(test));
afterAll(async () => {
  await gateway.stop();
  await admin.close();
  await stack.close();
});

const allow = (...keys: string[]) =>
  admin.sendCommand(['ACL', 'SETUSER', 'narrow', 'on', '>pw', '+@all', 'resetkeys', ...keys]);

it('refused targets, more than one batch can find by bisecting, delay no other target and are applied in the end', async () => {
  const worker = startWorkerProcess(stack.environment({ UPSTASH_REDIS_REST_URL: gateway.url }));
  await asleep(worker);
  await allow('~fencepost:*', '~quota:*', '~fence:quota:*');
  const refused = Array.from({ length: 600 }, (_, index) => `fence:cost:openai:m${index}`);
  await stack.fences.arm(refused);
  const good = await stack.organisations(200);
  // Interleaved in one transaction, so that they share batches.
  const client = await stack.sql.connect();
  await client.query('begin');
  for (let index = 0; index < refused.length; index++) {
    await client.query('select cache_invalidation.invalidate($1)', [`cost:openai:m${index}`]);
    const organisation = good[index / 3];
    if (organisation !== undefined)
      await client.query('update public.quotas set used = used + 1 where org_id = $1', [organisation]);
  }
  await client.query('commit');
  client.release();
  await stack.fences.deleted(good.map(fenceOf));
  // All of them are in the queue, none in the outbox, and Redis does not count as refusing everything.
  await expect
    .poll(async () => (await stack.sql.query('select from cache_invalidation.outbox')).rowCount)
    .toBe(0);
  expect(worker.lines.filter((line) => line.msg.includes('every command'))).toEqual([]);
  const [later = ''] = await stack.organisations(1);
  await stack.write([later]);
  await stack.fences.deleted([fenceOf(later)]);
  expect(await (await fetch(`${await worker.url()}/readyz`)).json()).toMatchObject({ ready: true });
  await allow('~*');
  await stack.fences.deleted(refused);
});
