/**
 * The real parts behind the functions, for one test file: a clone of the migrated and seeded database, PostgREST, Redis, the
 * gateway, the worker, and the functions under Deno. A test may stop a part to see what callers get without it.
 */
import pg from 'pg';
import { createClient } from 'redis';
import { type GatewayPart, startGateway } from '../../../local/gateway/gateway.ts';
import { type FunctionsPart, startFunctions } from '../../../local/parts/functions.ts';
import { type PostgrestPart, startPostgrest } from '../../../local/parts/postgrest.ts';
import { startRedis } from '../../../local/parts/redis.ts';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { readConfiguration } from '../../../worker/src/lib/config.ts';
import { startWorker } from '../../../worker/src/worker/start.ts';
import type { ClonedDatabase } from '../../support/template.ts';
import { type CallerName, isVisibleTo, JWT_SECRET, type Tokens, tokensFor } from './callers.ts';

const GATEWAY_TOKEN = 'token-of-the-tests';

export interface CallOptions {
  readonly as?: CallerName;
  /** Used instead of the caller's own. */
  readonly token?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Called {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The parsed body, if it was JSON. */
  readonly body: unknown;
}

export type Parameters = Readonly<Record<string, string | number>>;

export interface FunctionStack {
  readonly apiUrl: string;
  readonly databaseUrl: string;
  readonly api: PostgrestPart;
  readonly functions: FunctionsPart;
  readonly gateway: GatewayPart;
  readonly tokens: Tokens;
  /** The functions' log. */
  readonly lines: readonly string[];
  /** Calls a function, by GET unless the options say otherwise. */
  call(name: string, parameters?: Parameters, options?: CallOptions): Promise<Called>;
  /** Runs a statement as the superuser. */
  sql(text: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  /** Whether a query shows a caller any row, as Postgres judges it. */
  isVisibleTo(caller: CallerName, query: string): Promise<boolean>;
  /** Waits until Redis has confirmed the invalidations of all committed writes. */
  settled(): Promise<void>;
  /** Deletes all keys in Redis but the epoch and the heartbeat. */
  emptyCache(): Promise<void>;
  /** The keys of all cached answers. */
  entries(): Promise<string[]>;
  /** Stops the worker as if it had died: the heartbeat is gone at once and not after 90 s. */
  stopWorker(): Promise<void>;
  stop(): Promise<void>;
}

export interface StackOptions {
  /** It is dropped when the stack stops. Default: a clone of the test run's template. */
  readonly database?: ClonedDatabase;
}

export async function startFunctionStack(options: StackOptions = {}): Promise<FunctionStack> {
  const undo: (() => Promise<unknown>)[] = [];
  const stop = async () => {
    for (const end of undo.splice(0).reverse()) await end();
  };
  try {
    const [database, redis] = await Promise.all([options.database ?? cloneOfThisRun(), startRedis()]);
    undo.push(
      () => database.drop(),
      () => redis.stop(),
    );
    const [postgrest, gateway] = await Promise.all([
      startPostgrest({ databaseUrl: database.url, jwtSecret: JWT_SECRET }),
      startGateway({ redisUrl: redis.url, token: GATEWAY_TOKEN }),
    ]);
    undo.push(
      () => postgrest.stop(),
      () => gateway.stop(),
    );
    const pool = new pg.Pool({ connectionString: database.url, max: 3 });
    const raw = createClient({ url: redis.url });
    await raw.connect();
    undo.push(
      () => pool.end(),
      async () => raw.destroy(),
    );

    const worker = await startWorker(
      readConfiguration({
        DATABASE_URL: database.url,
        UPSTASH_REDIS_REST_URL: gateway.url,
        UPSTASH_REDIS_REST_TOKEN: gateway.token,
        HOST: '127.0.0.1',
        PORT: '0',
        LOG_LEVEL: 'silent',
        FENCEPOST_FALLBACK_POLL_SECONDS: '1',
      }),
    );
    undo.push(() => worker.stop());

    const tokens = await tokensFor(JWT_SECRET, postgrest.apiUrl);
    const lines: string[] = [];
    const functions = await startFunctions({
      environment: {
        SUPABASE_URL: postgrest.apiUrl,
        SUPABASE_ANON_KEY: tokens.anonymous ?? '',
        SUPABASE_SERVICE_ROLE_KEY: tokens.service ?? '',
        FENCEPOST_JWT_SECRET: JWT_SECRET,
        UPSTASH_REDIS_REST_URL: gateway.url,
        UPSTASH_REDIS_REST_TOKEN: gateway.token,
        // Long, so that a slow test machine does not look like an outage of Redis.
        FENCEPOST_CACHE_TIMEOUT_MS: '10000',
      },
      onLine: (name, line) => lines.push(`${name}: ${line}`),
    });
    undo.push(() => functions.stop());

    const sql: FunctionStack['sql'] = async (text, values) =>
      (await pool.query(text, values === undefined ? undefined : [...values])).rows;
    const keys = async () =>
      (await raw.keys('*')).filter((key) => key !== EPOCH_KEY && key !== HEARTBEAT_KEY);
    const stack: FunctionStack = {
      apiUrl: postgrest.apiUrl,
      databaseUrl: database.url,
      api: postgrest,
      functions,
      gateway,
      tokens,
      lines,
      stop,
      stopWorker: async () => {
        await worker.stop();
        await raw.del(HEARTBEAT_KEY);
      },
      sql,
      call: (name, parameters, call) => callFunction(functions.url, tokens, name, parameters, call),
      isVisibleTo: (caller, query) => isVisibleTo(pool, caller, query),
      settled: async () => {
        await waitUntil(async () => {
          const [row] = await sql('select not exists (select from cache_invalidation.changes) as empty');
          return row?.empty === true;
        });
      },
      emptyCache: async () => {
        const all = await keys();
        if (all.length > 0) await raw.del(all);
      },
      entries: async () => (await keys()).filter((key) => !/^(?:fence|lease|stat|fencepost)/.test(key)),
    };
    // Entries count only under the epoch of the worker's heartbeat.
    await waitUntil(async () => (await raw.exists(HEARTBEAT_KEY)) === 1);
    await stack.settled();
    return stack;
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Imported on demand, because benchmarks use this file too and that module exists only in a test run. */
async function cloneOfThisRun(): Promise<ClonedDatabase> {
  const { cloneDatabase } = await import('../../support/database.ts');
  return cloneDatabase();
}

/** Calls a function at a base address, as stack.call does. */
export async function callFunction(
  base: string,
  tokens: Tokens,
  name: string,
  parameters: Parameters = {},
  options: CallOptions = {},
): Promise<Called> {
  const token = options.token ?? (options.as === undefined ? undefined : tokens[options.as]);
  const headers = new Headers(options.headers);
  if (token !== undefined) headers.set('authorization', `Bearer ${token}`);
  const entries = Object.entries(parameters).map(([key, value]) => [key, String(value)]);
  const isPost = options.method === 'POST';
  if (isPost) headers.set('content-type', 'application/json');
  const query = isPost || entries.length === 0 ? '' : `?${new URLSearchParams(entries)}`;
  const response = await fetch(`${base}/${name}${query}`, {
    method: options.method ?? 'GET',
    headers,
    ...(isPost ? { body: JSON.stringify(parameters) } : {}),
  });
  const text = await response.text();
  const isJson = text !== '' && /json/.test(response.headers.get('content-type') ?? '');
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: isJson ? JSON.parse(text) : undefined,
  };
}

/** Polls every 5 ms until the condition holds. The time limit of the test ends it. */
async function waitUntil(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
}
