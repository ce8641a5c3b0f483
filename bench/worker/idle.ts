/**
 * What an idle worker costs: the commands that the gateway bills while nothing is written, projected to a day and a month.
 *
 * Every tenth beat costs two commands, so less than 22 beats (of 30 s) say little.
 *
 *     npx tsx bench/worker/idle.ts [seconds = 660]
 */
import { startGateway } from '../../local/gateway/gateway.ts';
import { startRedis } from '../../local/parts/redis.ts';
import { cloneFrom, startTemplate } from '../../tests/support/template.ts';
import { startBenchWorker, TOKEN } from '../support/worker.ts';

const SECONDS = Number(process.argv[2] ?? 660);

const postgres = await startTemplate();
const database = await cloneFrom(postgres.url);
const redis = await startRedis();
const gateway = await startGateway({ redisUrl: redis.url, token: TOKEN });
try {
  const worker = await startBenchWorker({ databaseUrl: database.url, gatewayUrl: gateway.url });
  // The first beat belongs to the start.
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const before = gateway.commandCount();
  await new Promise((resolve) => setTimeout(resolve, SECONDS * 1_000));
  const commands = gateway.commandCount() - before;
  const aDay = (commands / SECONDS) * 86_400;
  console.log(
    `${commands} commands in ${SECONDS} s of idleness: ${Math.round(aDay).toLocaleString('en')} a day, ${Math.round(aDay * 30).toLocaleString('en')} a month (the aim: fewer than 100,000).`,
  );
  await worker.stop();
} finally {
  await gateway.stop();
  await redis.stop();
  await database.drop();
  await postgres.stop();
}
