/**
 * The stand that the worker's benchmarks share: a migrated Postgres, a Redis, the gateway in a process of its own (it
 * must not share an event loop with what is measured), and a worker in another.
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

export interface Stand {
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly gatewayUrl: string;
  readonly redisPid: number;
  readonly gatewayPid: number;
  stop(): Promise<void>;
}

/** What the worker's process tells its parent; times are of the machine's monotonic clock, in nanoseconds. */
export type WorkerMessage =
  | { readonly kind: 'state'; readonly state: string }
  | { readonly kind: 'confirmed'; readonly target: string; readonly at: bigint }
  | { readonly kind: 'batch'; readonly rows: number; readonly at: bigint }
  | { readonly kind: 'memory'; readonly rssMb: number };

export async function startStand(): Promise<Stand> {
  const postgres = await startTemplate();
  const database = await cloneFrom(postgres.url);
  const redis = await startRedis();
  const gateway = child('gateway-process.ts', { REDIS_URL: redis.url, TOKEN });
  const [gatewayUrl] = (await once(gateway, 'message')) as [string];
  return {
    databaseUrl: database.url,
    redisUrl: redis.url,
    gatewayUrl,
    redisPid: redis.pid,
    gatewayPid: gateway.pid ?? 0,
    async stop() {
      gateway.kill();
      await redis.stop();
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
 */
export async function startBenchWorker(
  stand: Pick<Stand, 'databaseUrl' | 'gatewayUrl'>,
  environment: Record<string, string> = {},
  wait = true,
): Promise<BenchWorker> {
  const worker = child('worker-process.ts', {
    DATABASE_URL: stand.databaseUrl,
    UPSTASH_REDIS_REST_URL: stand.gatewayUrl,
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
      await ended;
    },
  };
}

/** Milliseconds of the machine's monotonic clock, the same in every process. */
export function now(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

export function quantile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export function summary(values: readonly number[]): { p50: number; p90: number; p99: number } {
  const sorted = [...values].sort((a, b) => a - b);
  return { p50: quantile(sorted, 0.5), p90: quantile(sorted, 0.9), p99: quantile(sorted, 0.99) };
}

/** Built like dist/, so that memory and start-up are those of a worker and not of a compiler beside it. */
function child(file: string, environment: Record<string, string>): ChildProcess {
  built ??= buildProcesses();
  return fork(join(built, file.replace('.ts', '.js')), {
    // For a profile: BENCH_NODE_ARGUMENTS="--cpu-prof --cpu-prof-dir=profile".
    execArgv: process.env.BENCH_NODE_ARGUMENTS?.split(' ') ?? [],
    env: { ...process.env, ...environment },
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
}

let built: string | undefined;

function buildProcesses(): string {
  const repository = fileURLToPath(new URL('../..', import.meta.url));
  const folder = join(repository, 'node_modules/.cache/fencepost-bench', String(process.pid));
  buildSync({
    entryPoints: ['worker-process.ts', 'gateway-process.ts'].map((file) =>
      join(repository, 'bench/worker', file),
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
