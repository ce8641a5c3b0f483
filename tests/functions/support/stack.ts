/**
 * All real parts behind the functions, for one test file: a clone of the migrated and seeded database, PostgREST, Redis, the
 * gateway, the worker, and the functions under Deno.
 */
import pg from 'pg';
import { createClient } from 'redis';
import { type GatewayPart, startGateway } from '../../../local/gateway/gateway.ts';
import { type FunctionsPart, startFunctions } from '../../../local/parts/functions.ts';
import type { Part } from '../../../local/parts/part.ts';
import { startPostgrest } from '../../../local/parts/postgrest.ts';
import { startRedis } from '../../../local/parts/redis.ts';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { readConfiguration } from '../../../worker/src/lib/config.ts';
import { startWorker } from '../../../worker/src/worker/start.ts';
import type { ClonedDatabase } from '../../support/template.ts';
import { type CallerName, postgresIdentity, type Tokens, tokensFor } from './callers.ts';

export const JWT_SECRET = 'the shared secret of the tests, long enough';
const GATEWAY_TOKEN = 'token-of-the-tests';

export interface CallOptions {
  readonly as?: CallerName;
  /** Instead of the caller's own. */
  readonly token?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Called {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The JSON that was answered, if it was JSON. */
  readonly body: unknown;
}

export type Parameters = Readonly<Record<string, string | number>>;

export interface FunctionStack {
  readonly apiUrl: string;
  readonly databaseUrl: string;
  /** PostgREST and its front. */
  readonly api: Part;
  readonly functions: FunctionsPart;
  readonly gateway: GatewayPart;
  readonly redis: Part & { url: string };
  readonly tokens: Tokens;
  /** What the functions wrote to their logs. */
  readonly lines: readonly string[];
  /** Calls a function by GET (default) or POST. */
  call(name: string, parameters?: Parameters, options?: CallOptions): Promise<Called>;
  /** A statement as the superuser. */
  sql(text: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>;
  /** Whether a query shows a caller any row, by the database's own verdict. */
  isVisibleTo(caller: CallerName, query: string): Promise<boolean>;
  /** Waits until every committed write has been carried out in Redis. */
  settled(): Promise<void>;
  /** Empties the cache, but for the epoch and the heartbeat. */
  emptyCache(): Promise<void>;
  /** All keys that hold answers, whatever their prefix. */
  entries(): Promise<string[]>;
  stop(): Promise<void>;
}

export interface StackOptions {
  /** Further or other settings of the functions. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Without the worker nothing is invalidated and nothing beats. Default true. */
  readonly worker?: boolean;
  /** Dropped when the stack stops. Default: a clone from the test run's template. */
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

    if (options.worker !== false) {
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
    }

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
        // A busy machine must not look like a Redis that is away.
        FENCEPOST_CACHE_TIMEOUT_MS: '10000',
        ...options.environment,
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
      redis,
      tokens,
      lines,
      stop,
      sql,
      call: (name, parameters, call) => callFunction(functions.url, tokens, name, parameters, call),
      isVisibleTo: (caller, query) => isVisibleTo(pool, caller, query),
      settled: async () => {
        await waitUntil(async () => {
          const [row] = await sql('select not exists (select from cache_invalidation.outbox) as empty');
          return row?.empty === true;
        });
      },
      emptyCache: async () => {
        const all = await keys();
        if (all.length > 0) await raw.del(all);
      },
      entries: async () => (await keys()).filter((key) => !/^(?:fence|lease|stat|fencepost)/.test(key)),
    };
    // The worker's first heartbeat, and with it an epoch under which entries count.
    if (options.worker !== false) {
      await waitUntil(async () => (await raw.exists(HEARTBEAT_KEY)) === 1);
      await stack.settled();
    }
    return stack;
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Imported only where it is needed: it exists within a test run alone, and benchmarks use this file too. */
async function cloneOfThisRun(): Promise<ClonedDatabase> {
  const { cloneDatabase } = await import('../../support/database.ts');
  return cloneDatabase();
}

/** Calls one function at any base address, as stack.call does. */
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

/** Asks Postgres itself, as the role and with the claims that PostgREST would use for this caller. */
async function isVisibleTo(pool: pg.Pool, caller: CallerName, query: string): Promise<boolean> {
  const { role, claims } = postgresIdentity(caller);
  const client = await pool.connect();
  try {
    await client.query('begin');
    await client.query("select set_config('request.jwt.claims', $1, true)", [JSON.stringify(claims)]);
    await client.query(`set local role ${role}`);
    return ((await client.query(query)).rowCount ?? 0) > 0;
  } catch (error) {
    // No privilege on the table is a verdict too.
    if ((error as { code?: string }).code === '42501') return false;
    throw error;
  } finally {
    await client.query('rollback');
    client.release();
  }
}

/** Asks again until the answer is yes; the test's own time limit ends it. */
export async function waitUntil(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 5));
}
