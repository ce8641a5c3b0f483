/**
 * What the benchmarks run a worker against: a Redis, the gateway in a process of its own (it must not share an event loop
 * with what is measured), the worker in another, and a migrated Postgres.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildSync } from 'esbuild';
import { startRedis } from '../../local/parts/redis.ts';
import { cloneFrom, startTemplate } from '../../tests/support/template.ts';

export const TOKEN = 'bench-token';

const repository = fileURLToPath(new URL('../..', import.meta.url));

export interface CacheServer {
  readonly redisUrl: string;
  readonly redisPid: number;
  readonly gatewayUrl: string;
  readonly gatewayPid: number;
  stop(): Promise<void>;
}

export interface Stack extends CacheServer {
  readonly databaseUrl: string;
}

/** What the worker's process tells its parent; times are of the machine's monotonic clock, in nanoseconds. */
export type WorkerMessage =
  | { readonly kind: 'state'; readonly state: string }
  | { readonly kind: 'confirmed'; readonly target: string; readonly at: bigint }
  | { readonly kind: 'batch'; readonly rows: number; readonly at: bigint }
  | { readonly kind: 'memory'; readonly rssMb: number };

/** Redis and the gateway before it. */
export async function startCacheServer(): Promise<CacheServer> {
  const redis = await startRedis();
  const gateway = startProcess('gateway-process.ts', repository, { REDIS_URL: redis.url, TOKEN });
  const [gatewayUrl] = (await once(gateway, 'message')) as [string];
  return {
    redisUrl: redis.url,
    redisPid: redis.pid,
    gatewayUrl,
    gatewayPid: gateway.pid ?? 0,
    async stop() {
      gateway.kill();
      await redis.stop();
    },
  };
}

/** The same with a migrated database. */
export async function startStack(): Promise<Stack> {
  const postgres = await startTemplate();
  const database = await cloneFrom(postgres.url);
  const cacheServer = await startCacheServer();
  return {
    ...cacheServer,
    databaseUrl: database.url,
    async stop() {
      await cacheServer.stop();
      await database.drop();
      await postgres.stop();
    },
  };
}

export interface BenchWorker {
  readonly process: ChildProcess;
  /** Resolves when it sleeps for the first time. */
  readonly asleep: Promise<void>;
  on(listener: (message: WorkerMessage) => void): void;
  stop(): Promise<void>;
}

/**
 * A worker in its own process that reports each confirmation with the time of the machine's monotonic clock.
 *
 * @param wait false: return at once, and leave `asleep` to the caller
 * @param checkout whose worker: the folder of a checkout of this repository, with its packages
 */
export async function startBenchWorker(
  stack: Pick<Stack, 'databaseUrl' | 'gatewayUrl'>,
  environment: Record<string, string> = {},
  wait = true,
  checkout = repository,
): Promise<BenchWorker> {
  const worker = startProcess('worker-process.ts', checkout, {
    DATABASE_URL: stack.databaseUrl,
    UPSTASH_REDIS_REST_URL: stack.gatewayUrl,
    UPSTASH_REDIS_REST_TOKEN: TOKEN,
    PORT: '0',
    FENCEPOST_LOG: 'json',
    ...environment,
  });
  worker.setMaxListeners(0);
  const asleep = new Promise<void>((resolve, reject) => {
    worker.on('message', (message: WorkerMessage) => {
      if (message.kind === 'state' && message.state === 'asleep') resolve();
    });
    worker.once('exit', (code) => reject(new Error(`The worker ended with ${code}.`)));
  });
  asleep.catch(() => undefined);
  if (wait) await asleep;
  return {
    process: worker,
    asleep,
    on: (listener) => worker.on('message', listener),
    async stop() {
      const ended = once(worker, 'exit');
      worker.kill('SIGTERM');
      const [code] = (await ended) as [number | null];
      if (code !== 0) throw new Error(`The worker ended with ${code}.`);
    },
  };
}

/** Built like dist/, so that memory and start-up are those of a worker and not of a compiler beside it. */
function startProcess(file: string, checkout: string, environment: Record<string, string>): ChildProcess {
  const built = builds.get(checkout) ?? buildProcesses(checkout);
  builds.set(checkout, built);
  return fork(join(built, file.replace('.ts', '.js')), {
    // For a profile: BENCH_NODE_ARGUMENTS="--cpu-prof --cpu-prof-dir=profile".
    execArgv: process.env.BENCH_NODE_ARGUMENTS?.split(' ') ?? [],
    env: { ...process.env, ...environment },
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
}

const builds = new Map<string, string>();

function buildProcesses(checkout: string): string {
  const folder = join(checkout, 'node_modules/.cache/fencepost-bench', String(process.pid));
  buildSync({
    entryPoints: ['worker-process.ts', 'gateway-process.ts'].map((file) =>
      join(checkout, 'bench/support', file),
    ),
    outdir: folder,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    logLevel: 'error',
  });
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
