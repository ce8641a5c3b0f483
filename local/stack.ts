/**
 * The embedded stack: real parts, wired as on Supabase and Upstash. Parts that do not need each other start side by side.
 * Everything it makes is in temporary folders and is removed when it stops.
 *
 *     Redis ─▶ gateway ─────────────────────────┐
 *                                               ├─▶ worker
 *     Postgres ─▶ migrations ─▶ seed ─┬─────────┘
 *                                     └─▶ PostgREST ─▶ edge functions
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { startGateway } from './gateway/gateway.ts';
import { execute, withClient } from './parts/client.ts';
import { startFunctions } from './parts/functions.ts';
import { applyMigrations } from './parts/migrations.ts';
import { once, type Part, PartError } from './parts/part.ts';
import { startPostgres } from './parts/postgres.ts';
import { startPostgrest } from './parts/postgrest.ts';
import { startRedis } from './parts/redis.ts';
import { startReloadingWorker } from './parts/reloading-worker.ts';
import { buildWorker, startWorker, type WorkerPart } from './parts/worker.ts';
import { stackTokens } from './tokens.ts';

/** What `.local/stack.json` holds. */
export interface StackAddresses {
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly upstashUrl: string;
  readonly upstashToken: string;
  /** In front of every key in Redis; empty without one. */
  readonly cachePrefix: string;
  readonly apiUrl: string;
  readonly functionsUrl: string;
  readonly workerUrl: string;
  readonly anonToken: string;
  readonly userToken: string;
  readonly serviceToken: string;
}

export interface StackOptions {
  /** Told when a part is ready, with the milliseconds it took. */
  readonly onReady?: (part: string, milliseconds: number) => void;
  /** Told what else is going on: an installation, a part that ended by itself. */
  readonly onNotice?: (line: string) => void;
  /** What the functions write to their logs, and the worker from when the stack is up: before that it applies the seed. */
  readonly onLine?: (part: string, line: string) => void;
  /** The worker listens here or not at all. */
  readonly workerPort?: number | undefined;
  /** The worker is restarted when its sources change. */
  readonly reload?: boolean;
  /** Wishes; a taken port is replaced by a free one. */
  readonly ports?: Partial<Record<'worker' | 'functions' | 'api' | 'upstash' | 'postgres' | 'redis', number>>;
  /** Passed on to the worker and, where it concerns them, the functions: CACHE_PREFIX, LOG_LEVEL and others. */
  readonly environment?: Readonly<Record<string, string>>;
}

const seedFile = fileURLToPath(new URL('../supabase/seed.sql', import.meta.url));

/** Functions that are started with the stack; the others start with their first request, and in the background. */
const EAGER_FUNCTIONS = ['quota-check', 'health-check'];

/**
 * Starts the whole stack. When a part fails, those already started are stopped before the error is thrown.
 * @throws PartError naming the part and the remedy
 */
export async function startStack(options: StackOptions = {}): Promise<Part & { addresses: StackAddresses }> {
  const { ports = {}, environment = {}, onNotice } = options;
  const started: Part[] = [];
  let stopping = false;
  let isUp = false;

  const timed = async <T>(name: string, work: () => Promise<T>): Promise<T> => {
    const startedAt = performance.now();
    const result = await work();
    options.onReady?.(name, performance.now() - startedAt);
    return result;
  };
  const begin = async <T extends Part & { ended?: Promise<unknown> }>(
    start: () => Promise<T>,
  ): Promise<T> => {
    const part = await start();
    started.push(part);
    void part.ended?.then(() => {
      if (!stopping) onNotice?.(`${part.name} has ended by itself. Start the stack again to get it back.`);
    });
    // It was still starting when another part failed and the others were stopped.
    if (stopping) await part.stop();
    return part;
  };
  const stop = once(async () => {
    stopping = true;
    // Those that write stop before those that they write to.
    for (const names of [['Worker', 'Edge functions'], ['PostgREST', 'Upstash gateway'], undefined]) {
      const batch = started.filter(({ name }) => names?.includes(name) ?? true);
      await Promise.allSettled(batch.map((part) => part.stop()));
    }
  });

  const upstashToken = randomBytes(24).toString('base64url');
  // As the worker reads it.
  const cachePrefix = (environment.CACHE_PREFIX ?? '').trim();
  const jwtSecret = randomBytes(32).toString('base64url');

  const bootCache = async () => {
    const redis = await timed('Redis', () =>
      begin(() =>
        startRedis({ ...preferred(ports.redis), ...(onNotice === undefined ? {} : { report: onNotice }) }),
      ),
    );
    const gateway = await timed('Upstash gateway', () =>
      begin(() => startGateway({ redisUrl: redis.url, token: upstashToken, ...preferred(ports.upstash) })),
    );
    return { redisUrl: redis.url, upstashUrl: gateway.url };
  };
  const bootDatabase = async () => {
    const postgres = await timed('Postgres 17', () => begin(() => startPostgres(preferred(ports.postgres))));
    await timed('Migrations', () => applyMigrations(postgres.url));
    await timed('Seed', () => loadSeed(postgres.url));
    return postgres.url;
  };
  const bootFunctions = async (databaseUrl: string, cache: Promise<{ upstashUrl: string }>) => {
    const { apiUrl } = await timed('PostgREST', () =>
      begin(() => startPostgrest({ databaseUrl, jwtSecret, ...preferred(ports.api) })),
    );
    const tokens = await stackTokens(jwtSecret, apiUrl);
    const { upstashUrl } = await cache;
    const functions = await timed('Edge functions', async () => {
      const part = await begin(() =>
        startFunctions({
          environment: {
            SUPABASE_URL: apiUrl,
            SUPABASE_ANON_KEY: tokens.anonToken,
            SUPABASE_SERVICE_ROLE_KEY: tokens.serviceToken,
            FENCEPOST_JWT_SECRET: jwtSecret,
            UPSTASH_REDIS_REST_URL: upstashUrl,
            UPSTASH_REDIS_REST_TOKEN: upstashToken,
            CACHE_PREFIX: cachePrefix,
            FENCEPOST_CACHE_TIMEOUT_MS: environment.FENCEPOST_CACHE_TIMEOUT_MS ?? '',
          },
          onLine: (name, text) => {
            if (!stopping) options.onLine?.(name, text);
          },
          ...preferred(ports.functions),
        }),
      );
      await part.warm(EAGER_FUNCTIONS.filter((name) => part.names.includes(name)));
      return part;
    });
    return { apiUrl, functions, tokens };
  };

  try {
    const cache = bootCache();
    const build = buildWorker();
    const databaseUrl = await all(bootDatabase(), cache, build);
    const bootWorker = async () => {
      const { upstashUrl } = await cache;
      return await timed('Worker', async () => {
        const settings = {
          databaseUrl,
          upstashUrl,
          upstashToken,
          environment,
          onLine: (text: string) => {
            if (isUp && !stopping) options.onLine?.('worker', text);
          },
          ...(options.workerPort === undefined ? preferred(ports.worker) : { port: options.workerPort }),
        };
        const part = await begin(() =>
          options.reload === true
            ? startReloadingWorker(settings, (line) => onNotice?.(line))
            : startWorker(settings),
        );
        await untilDrained(databaseUrl, part);
        return part;
      });
    };
    const worker = bootWorker();
    const { apiUrl, functions, tokens } = await all(bootFunctions(databaseUrl, cache), worker);
    const { redisUrl, upstashUrl } = await cache;
    isUp = true;
    void functions.warm();
    return {
      name: 'Stack',
      addresses: {
        databaseUrl,
        redisUrl,
        upstashUrl,
        upstashToken,
        cachePrefix,
        apiUrl,
        functionsUrl: functions.url,
        workerUrl: (await worker).url,
        ...tokens,
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** The first one's result; fails as soon as any of them fails, and leaves no rejection unhandled. */
async function all<T>(first: Promise<T>, ...others: readonly Promise<unknown>[]): Promise<T> {
  const [result] = await Promise.all([first, ...others]);
  return result;
}

function preferred(port: number | undefined): { preferredPort: number } | Record<string, never> {
  return port === undefined ? {} : { preferredPort: port };
}

async function loadSeed(databaseUrl: string): Promise<void> {
  if (existsSync(seedFile)) await execute(databaseUrl, await readFile(seedFile, 'utf8'));
}

/** The seed's own invalidations are of no interest: the stack counts as up when the worker has applied them. */
async function untilDrained(databaseUrl: string, worker: WorkerPart): Promise<void> {
  let ended = false;
  void worker.ended.then(() => {
    ended = true;
  });
  await withClient(databaseUrl, async (client) => {
    for (;;) {
      const { rows } = await client.query(
        'select exists (select from cache_invalidation.changes) as pending',
      );
      if (!rows[0]?.pending) return;
      if (ended) throw new PartError('PART_START_FAILED', 'The worker ended before it had applied the seed.');
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  });
}
