/**
 * The configuration, read from the environment; cli.ts adds what a `.env` file sets. One error names every problem at once,
 * each with its remedy. No message repeats a value that may be secret.
 */
import { accessSync, constants } from 'node:fs';
import { z } from 'zod';
import {
  httpAddress,
  prefixProblem,
  quotesProblem,
  tokenProblem,
  trimmed,
} from '../../../supabase/functions/_shared/cache/protocol/environment.ts';
import { ExitCode, WorkerError } from './errors.ts';

export interface Configuration {
  readonly databaseUrl: string;
  readonly upstashUrl: string;
  readonly upstashToken: string;
  /** In front of every key in Redis; readers must have the same CACHE_PREFIX. */
  readonly cachePrefix: string;
  /** Where BullMQ keeps its jobs; undefined: in the database. */
  readonly queueRedisUrl: string | undefined;
  /** 0 lets the system choose. */
  readonly port: number;
  readonly host: string;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** Milliseconds between two beats of the heartbeat key. */
  readonly heartbeatIntervalMs: number;
  /** Milliseconds between two polls while asleep. */
  readonly fallbackPollMs: number;
  /** A new epoch replaces a backlog of more rows. */
  readonly backlogRows: number;
  /** A new epoch replaces a backlog that is older, in milliseconds. */
  readonly backlogAgeMs: number;
  /** Milliseconds from the first DEL to a second one, for loaders that read from replicas; 0: no second DEL. */
  readonly replicaLagMs: number;
  /** Milliseconds between two audits; 0: none. */
  readonly auditIntervalMs: number;
  /** Milliseconds that one request to Upstash may take. */
  readonly upstashTimeoutMs: number;
}

const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

const LOG_FORMATS = ['pretty', 'json'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

/** Supabase's transaction pooler, where LISTEN and session locks are lost without an error. */
const TRANSACTION_POOLER_PORT = '6543';

const databaseUrl = z
  .string({ error: 'is missing: set it to the connection string of the database' })
  .check((context) => {
    const url = parseUrl(context.value);
    if (url === null || !['postgres:', 'postgresql:'].includes(url.protocol) || url.hostname === '') {
      problem(
        context,
        'is not a Postgres connection string: expected postgresql://user:password@host:5432/database',
      );
    } else if (url.port === TRANSACTION_POOLER_PORT) {
      problem(
        context,
        'points at port 6543, the transaction pooler, where LISTEN is lost silently: use the direct connection or the session pooler, port 5432',
      );
    }
    for (const name of ['sslrootcert', 'sslcert', 'sslkey']) {
      const file = url?.searchParams.get(name);
      if (file && !isReadable(file)) {
        problem(
          context,
          `names a file in ${name} that cannot be read: correct its path, or take ${name} out`,
        );
      }
    }
  });

const upstashUrl = z
  .string({ error: 'is missing: copy it from the REST section of the Upstash console' })
  .transform((text, context) => {
    const address = httpAddress(text, 'https://<name>.upstash.io');
    if (address.problem === null) return address.url;
    problem(context, address.problem);
    return z.NEVER;
  });

const checkToken = checkWith(tokenProblem);
const upstashToken = z
  .string({ error: 'is missing: copy it from the REST section of the Upstash console' })
  .check(checkToken);

const queueRedisUrl = z
  .string()
  .optional()
  .check((context) => {
    if (context.value === undefined) return;
    const url = parseUrl(context.value);
    if (url === null || !['redis:', 'rediss:'].includes(url.protocol)) {
      problem(context, 'is not a Redis address: expected redis://host:6379 or rediss://…, or leave it unset');
    }
  });

/** Seconds in the environment, milliseconds in the program. */
const seconds = (fallback: number, least: number, most: number) =>
  number(fallback, least, most).transform((value) => Math.round(value * 1000));

const environment = z.object({
  DATABASE_URL: databaseUrl,
  UPSTASH_REDIS_REST_URL: upstashUrl,
  UPSTASH_REDIS_REST_TOKEN: upstashToken,
  CACHE_PREFIX: z.string().check(checkWith(prefixProblem)).default(''),
  QUEUE_REDIS_URL: queueRedisUrl,
  PORT: integer(8787, 0, 65_535),
  HOST: z.string().default('0.0.0.0'),
  LOG_LEVEL: z.enum(LOG_LEVELS, { error: `must be one of ${LOG_LEVELS.join(', ')}` }).default('info'),
  FENCEPOST_LOG: z.enum(LOG_FORMATS, { error: 'must be pretty or json' }).optional(),
  // 29 s is the shortest beat that keeps an idle worker below 100 000 commands a month; the key lives for 90 s.
  FENCEPOST_HEARTBEAT_SECONDS: seconds(30, 1, 45),
  FENCEPOST_FALLBACK_POLL_SECONDS: seconds(5, 0.05, 60),
  FENCEPOST_BACKLOG_ROWS: integer(1_000_000, 1_000, 1_000_000_000),
  FENCEPOST_BACKLOG_SECONDS: seconds(3_600, 1, 86_400),
  FENCEPOST_REPLICA_LAG_SECONDS: seconds(0, 0, 3_600),
  FENCEPOST_AUDIT_SECONDS: seconds(0, 0, 86_400 * 7),
  FENCEPOST_UPSTASH_TIMEOUT_SECONDS: seconds(5, 0.1, 60),
});

/** The names of all variables. */
export const VARIABLES: readonly string[] = Object.keys(environment.shape);

/**
 * Reads and checks the whole environment. An empty variable counts as one that is not set.
 *
 * @throws WorkerError CONFIGURATION, whose message lists every problem, one a line
 */
export function readConfiguration(variables: Readonly<Record<string, string | undefined>>): Configuration {
  const value = validated(environment, variables);
  return {
    databaseUrl: value.DATABASE_URL,
    upstashUrl: value.UPSTASH_REDIS_REST_URL,
    upstashToken: value.UPSTASH_REDIS_REST_TOKEN,
    cachePrefix: value.CACHE_PREFIX,
    queueRedisUrl: value.QUEUE_REDIS_URL,
    port: value.PORT,
    host: value.HOST,
    logLevel: value.LOG_LEVEL,
    logFormat: logFormatOf(variables),
    heartbeatIntervalMs: value.FENCEPOST_HEARTBEAT_SECONDS,
    fallbackPollMs: value.FENCEPOST_FALLBACK_POLL_SECONDS,
    backlogRows: value.FENCEPOST_BACKLOG_ROWS,
    backlogAgeMs: value.FENCEPOST_BACKLOG_SECONDS,
    replicaLagMs: value.FENCEPOST_REPLICA_LAG_SECONDS,
    auditIntervalMs: value.FENCEPOST_AUDIT_SECONDS,
    upstashTimeoutMs: value.FENCEPOST_UPSTASH_TIMEOUT_SECONDS,
  };
}

const warmToken = z.object({
  FENCEPOST_WARM_TOKEN: z.string().check(checkToken).optional(),
});
const warming = warmToken.extend({ DATABASE_URL: databaseUrl });

/** The configuration of `fencepost warm`, which sends requests to readers and needs no Redis. */
export interface WarmingConfiguration {
  /** Undefined when no row is needed. */
  readonly databaseUrl: string | undefined;
  /** For the readers; undefined: requests carry no credentials. */
  readonly token: string | undefined;
}

/** @throws WorkerError CONFIGURATION */
export function readWarmingConfiguration(
  variables: Readonly<Record<string, string | undefined>>,
  needsRows: boolean,
): WarmingConfiguration {
  if (!needsRows)
    return { databaseUrl: undefined, token: validated(warmToken, variables).FENCEPOST_WARM_TOKEN };
  const value = validated(warming, variables);
  return { databaseUrl: value.DATABASE_URL, token: value.FENCEPOST_WARM_TOKEN };
}

/** @throws WorkerError CONFIGURATION */
function validated<T extends z.ZodObject>(
  schema: T,
  variables: Readonly<Record<string, string | undefined>>,
): z.output<T> {
  const present: Record<string, string> = {};
  const quoted = new Map<string, string>();
  for (const name of Object.keys(schema.shape)) {
    const value = trimmed(variables[name]);
    if (value === undefined) continue;
    present[name] = value;
    const quotes = quotesProblem(value);
    if (quotes !== null) quoted.set(name, quotes);
  }
  const result = schema.safeParse(present);
  const others = (result.error?.issues ?? []).map(({ path, message }) => [path.join('.'), message] as const);
  // Whatever else is wrong with a value in quotes, the quotes are why.
  const problems = [...quoted, ...others.filter(([name]) => !quoted.has(name))].map((one) => one.join(' '));
  if (result.success && problems.length === 0) return result.data;
  const said = problems.length === 1 ? 'a problem' : `${problems.length} problems`;
  throw new WorkerError(
    'CONFIGURATION',
    `The configuration has ${said}:\n  ${problems.join('.\n  ')}.\nSet the variables in the environment or in a file called .env; the README lists them all.`,
    { exitCode: ExitCode.configuration },
  );
}

/** The format of the log, even if other variables have errors. An unknown value counts as not set. */
export function logFormatOf(variables: Readonly<Record<string, string | undefined>>): LogFormat {
  const asked = LOG_FORMATS.find((format) => format === variables.FENCEPOST_LOG?.trim());
  return asked ?? (process.stdout.isTTY ? 'pretty' : 'json');
}

/** Host, port and database of a connection string, without user and password, for messages. */
export function placeOf(url: string): string {
  const parsed = parseUrl(url);
  return parsed === null
    ? 'the configured address'
    : `${parsed.host}${parsed.pathname === '/' ? '' : parsed.pathname}`;
}

function parseUrl(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}

function isReadable(file: string): boolean {
  try {
    accessSync(file, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function problem(context: Pick<z.core.ParsePayload<unknown>, 'issues'>, message: string): void {
  // Without the input: a connection string may hold a password.
  context.issues.push({ code: 'custom', message, input: undefined });
}

function checkWith(find: (text: string) => string | null): z.core.CheckFn<string> {
  return (context) => {
    const found = find(context.value);
    if (found !== null) problem(context, found);
  };
}

function number(fallback: number, least: number, most: number, kind = 'number') {
  return z
    .string()
    .optional()
    .transform((text, context) => {
      if (text === undefined) return fallback;
      const value = Number(text);
      const fits = kind === 'number' ? Number.isFinite(value) : Number.isSafeInteger(value);
      if (fits && value >= least && value <= most) return value;
      context.issues.push({
        code: 'custom',
        message: `must be a ${kind} from ${least} to ${most}`,
        input: text,
      });
      return z.NEVER;
    });
}

function integer(fallback: number, least: number, most: number) {
  return number(fallback, least, most, 'whole number');
}
