/**
 * health-check: whether the service answers, and how well. Public, so it says nothing that is anyone's: no address, no token,
 * no key. 503 only when the database is away, since without it nothing can be answered; a cache that is away costs time only.
 *
 * The checks run at most once a second an isolate, whoever asks: a public address must not be a lever on the database.
 */

import type { FunctionDependencies } from '../_shared/function.ts';
import { createEndpoint, type Handler } from '../_shared/http/endpoint.ts';

export interface HealthAnswer {
  /**
   * `degraded`: answers are right but slower, because the cache or the worker is away, or older than usual, because
   * invalidations wait for more than 5 s. `unhealthy`: the database is away or took longer than 2 s.
   */
  readonly status: 'healthy' | 'degraded' | 'unhealthy';
  readonly cache: {
    /** Whether a cache is configured. */
    readonly enabled: boolean;
    readonly connected: boolean;
    /** Redis's DBSIZE, which counts the keys of everyone who shares the database; 0 while it is away. */
    readonly keyCount: number;
    readonly latencyMs: number | null;
  };
  readonly database: { readonly connected: boolean; readonly latencyMs: number | null };
  readonly worker: {
    /** Whether the worker's heartbeat is there; null when nobody can tell. */
    readonly alive: boolean | null;
    /** Age of the oldest invalidation that has not been carried out. */
    readonly secondsBehind: number | null;
  };
}

/** How long one examination is good for, in milliseconds. */
const FRESH_MS = 1_000;
/** How long the database may take, in milliseconds: whoever watches gives up before a load would. */
const DATABASE_LIMIT_MS = 2_000;
/** From this age of the oldest invalidation on, in seconds, invalidation does not flow as it should. */
const BEHIND_SECONDS = 5;

type Examined = HealthAnswer['database'] & { readonly secondsBehind: number | null };

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
        latest = { at: now, answer: examine(dependencies) };
      }
      const body = await latest.answer;
      return { body, status: body.status === 'unhealthy' ? 503 : 200 };
    },
  });
}

/** Asks the cache and the database at the same time. */
export async function examine(dependencies: FunctionDependencies): Promise<HealthAnswer> {
  const [cache, database] = await Promise.all([dependencies.cache.ping(), askDatabase(dependencies)]);
  const isWorkerAlive = cache.connected ? cache.workerAlive : null;
  const isFlowing = isWorkerAlive === true && (database.secondsBehind ?? 0) <= BEHIND_SECONDS;
  return {
    status: !database.connected ? 'unhealthy' : cache.connected && isFlowing ? 'healthy' : 'degraded',
    cache: {
      enabled: cache.enabled,
      connected: cache.connected,
      keyCount: cache.keyCount,
      latencyMs: cache.latencyMs,
    },
    database: { connected: database.connected, latencyMs: database.latencyMs },
    worker: { alive: isWorkerAlive, secondsBehind: database.secondsBehind },
  };
}

async function askDatabase({ database }: FunctionDependencies): Promise<Examined> {
  const startedAt = performance.now();
  try {
    const reply = (await database.askPublic((client) =>
      client.rpc('cache_health').abortSignal(AbortSignal.timeout(DATABASE_LIMIT_MS)),
    )) as {
      seconds_behind?: number;
    } | null;
    return {
      connected: true,
      latencyMs: Math.round((performance.now() - startedAt) * 10) / 10,
      secondsBehind: reply?.seconds_behind ?? null,
    };
  } catch {
    return { connected: false, latencyMs: null, secondsBehind: null };
  }
}
