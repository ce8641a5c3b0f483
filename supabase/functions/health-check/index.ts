/**
 * health-check: whether the functions work, and how well. It is public, so it reveals no address, no token and no key. It answers
 * 503 only without the database; without the cache, answers are only slower.
 *
 * The checks run at most once per second and isolate, so that nobody can load the database through this public address.
 */

import { type FunctionDependencies, startFunction } from '../_shared/function.ts';
import { createEndpoint, type Handler } from '../_shared/http/endpoint.ts';
import { Problem } from '../_shared/http/problem.ts';

export interface HealthAnswer {
  /**
   * `degraded`: the cache or the worker is away, or the cache takes no writes, and answers are right but slower; or invalidations
   * wait for more than 5 s, and answers may be that old. `unhealthy`: the database is away or took longer than 2 s.
   */
  readonly status: 'healthy' | 'degraded' | 'unhealthy';
  readonly cache: {
    /** Whether a cache is configured. */
    readonly enabled: boolean;
    readonly connected: boolean;
    /** Redis's DBSIZE. It counts all keys of the database, also those of other applications; 0 while Redis is away. */
    readonly keyCount: number;
    readonly latencyMs: number | null;
    /** Why Redis is away or takes no writes, such as `its memory is full`; null when all is well, or no cache is configured. */
    readonly problem: string | null;
  };
  readonly database: { readonly connected: boolean; readonly latencyMs: number | null };
  readonly worker: {
    /** Whether the worker's heartbeat is there; null while the cache is away. */
    readonly alive: boolean | null;
    /** Age of the oldest invalidation that is not confirmed yet. */
    readonly secondsBehind: number | null;
  };
}

/** How long a result is served again, in milliseconds. */
const FRESH_MS = 1_000;
/** How long the database may take, in milliseconds. Less than for a load, because monitors time out earlier. */
const DATABASE_LIMIT_MS = 2_000;
/** Invalidation counts as late when the oldest one is older than this, in seconds. */
const LATE_SECONDS = 5;

type DatabaseHealth = HealthAnswer['database'] & { readonly secondsBehind: number | null };

export function createHandler(dependencies: FunctionDependencies): Handler {
  let latest: { readonly at: number; readonly answer: Promise<HealthAnswer> } | undefined;
  return createEndpoint({
    name: 'health-check',
    parameters: [],
    allowedOrigins: dependencies.settings.allowedOrigins,
    answer: async ({ readParameters }) => {
      await readParameters();
      const now = dependencies.now();
      if (latest === undefined || now - latest.at >= FRESH_MS || now < latest.at) {
        latest = { at: now, answer: checkHealth(dependencies) };
      }
      const body = await latest.answer;
      return { body, status: body.status === 'unhealthy' ? 503 : 200 };
    },
  });
}

export default { fetch: startFunction(createHandler) };

/** Checks the cache and the database at the same time. */
export async function checkHealth(dependencies: FunctionDependencies): Promise<HealthAnswer> {
  const [cache, database] = await Promise.all([dependencies.cache.ping(), checkDatabase(dependencies)]);
  const isWorkerAlive = cache.connected ? cache.workerAlive : null;
  const isOnTime = isWorkerAlive === true && (database.secondsBehind ?? 0) <= LATE_SECONDS;
  const isWell = cache.connected && cache.problem === null && isOnTime;
  return {
    status: !database.connected ? 'unhealthy' : isWell ? 'healthy' : 'degraded',
    cache: {
      enabled: cache.enabled,
      connected: cache.connected,
      keyCount: cache.keyCount,
      latencyMs: cache.latencyMs,
      problem: cache.problem,
    },
    database: { connected: database.connected, latencyMs: database.latencyMs },
    worker: { alive: isWorkerAlive, secondsBehind: database.secondsBehind },
  };
}

async function checkDatabase({ database }: FunctionDependencies): Promise<DatabaseHealth> {
  const startedAt = performance.now();
  try {
    const reply = (await database.queryPublic((client) =>
      client.rpc('cache_health').abortSignal(AbortSignal.timeout(DATABASE_LIMIT_MS)),
    )) as {
      seconds_behind?: number;
    } | null;
    return {
      connected: true,
      latencyMs: Math.round((performance.now() - startedAt) * 10) / 10,
      secondsBehind: reply?.seconds_behind ?? null,
    };
  } catch (error) {
    // The database answers, so it is not away.
    if (error instanceof Problem && error.code === 'MISCONFIGURED') throw error;
    return { connected: false, latencyMs: null, secondsBehind: null };
  }
}
