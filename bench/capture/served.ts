/**
 * What serves the captured writes in a benchmark: the worker as `fencepost run` starts it, the gateway and Redis, each in
 * a process of its own. All of them share the processors with Postgres and pgbench, which in production they do not.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { execa } from 'execa';
import { startRedis } from '../../local/parts/redis.ts';
import type { Stand } from './support.ts';

const TOKEN = 'bench-token';
const repository = fileURLToPath(new URL('../..', import.meta.url));

export interface Serving {
  /** Starts a worker and waits until it sleeps; `stop` ends it in good order and gives the processor seconds that it took. */
  startWorker(stand: Stand): Promise<{ stop(): Promise<void> }>;
  stop(): Promise<void>;
}

export async function startServing(): Promise<Serving> {
  await execa(process.execPath, [`${repository}/worker/build.mjs`]);
  const redis = await startRedis();
  const gateway = fork(fileURLToPath(new URL('../worker/gateway-process.ts', import.meta.url)), {
    execArgv: ['--import', 'tsx'],
    env: { ...process.env, REDIS_URL: redis.url, TOKEN },
  });
  const [gatewayUrl] = (await once(gateway, 'message')) as [string];
  return {
    async startWorker(stand) {
      const worker = fork(`${repository}/worker/dist/cli.js`, ['run'], {
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
        env: {
          ...process.env,
          DATABASE_URL: stand.url,
          UPSTASH_REDIS_REST_URL: gatewayUrl,
          UPSTASH_REDIS_REST_TOKEN: TOKEN,
          PORT: '0',
          FENCEPOST_LOG: 'json',
        },
      });
      await asleep(stand, worker);
      return {
        async stop() {
          const ended = once(worker, 'exit');
          worker.kill('SIGTERM');
          const [code] = (await ended) as [number | null];
          if (code !== 0) throw new Error(`The worker ended with ${code}.`);
        },
      };
    },
    async stop() {
      gateway.kill();
      await redis.stop();
    },
  };
}

/** Until somebody holds the doorbell's lock. */
async function asleep(stand: Stand, worker: ChildProcess): Promise<void> {
  for (;;) {
    const rows = await stand.query(
      `select from pg_locks where locktype = 'advisory' and objid = 461870001 and mode = 'ExclusiveLock' and granted`,
    );
    if (rows.length > 0) return;
    if (worker.exitCode !== null) throw new Error(`The worker ended with ${worker.exitCode}.`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
