/**
 * Reads the functions' settings from the environment, in Deno and in Node, once an isolate. Every setting is checked here, so
 * that a malformed one gives one sentence at the first request and not a surprise at the thousandth.
 */
import { Problem } from './problem.ts';

export interface FunctionSettings {
  /** Base address of the project's API, without a trailing slash. */
  readonly supabaseUrl: string;
  /** The key that requests made for signed-in users carry in `apikey`: publishable, or the legacy anon key. */
  readonly publicKey: string;
  /** Publishable keys (`sb_publishable_…`) and the legacy anon key: callers who present one are anonymous. */
  readonly publicKeys: readonly string[];
  /** Secret keys (`sb_secret_…`) and the legacy service_role key: callers who present one are the service. */
  readonly secretKeys: readonly string[];
  /** The project's legacy shared secret; without it no HS256 token is accepted. */
  readonly jwtSecret: string | undefined;
  /** Key set given inline by the platform, as JSON; others are fetched from the project. */
  readonly inlineKeySet: string | undefined;
  readonly issuers: readonly string[];
  readonly audience: string;
  /** Origins that browsers may call from, or `*`. */
  readonly allowedOrigins: readonly string[];
  /** How long a question to the database may take, in milliseconds. */
  readonly databaseTimeoutMs: number;
  /** How long a question to the cache may take, in milliseconds; then the database is asked. */
  readonly cacheTimeoutMs: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The process's environment, whichever runtime this is. */
export function processEnvironment(): Environment {
  const runtime = globalThis as {
    Deno?: { env: { toObject(): Record<string, string> } };
    process?: { env: Environment };
  };
  return runtime.Deno?.env.toObject() ?? runtime.process?.env ?? {};
}

/**
 * Takes the settings out of an environment.
 * @throws Problem MISCONFIGURED, naming the variable, when one is missing or malformed.
 */
export function readSettings(environment: Environment = processEnvironment()): FunctionSettings {
  const supabaseUrl = baseUrl(required(environment, 'SUPABASE_URL'));
  const publishable = namedKeys(environment, 'SUPABASE_PUBLISHABLE_KEYS');
  const secret = namedKeys(environment, 'SUPABASE_SECRET_KEYS');
  const publicKeys = [...publishable, ...present(environment.SUPABASE_ANON_KEY)];
  const [publicKey] = publicKeys;
  if (publicKey === undefined) {
    throw new Problem('MISCONFIGURED', 'Set SUPABASE_PUBLISHABLE_KEYS or SUPABASE_ANON_KEY.');
  }
  return {
    supabaseUrl,
    publicKey,
    publicKeys,
    secretKeys: [...secret, ...present(environment.SUPABASE_SERVICE_ROLE_KEY)],
    jwtSecret: present(environment.FENCEPOST_JWT_SECRET)[0],
    inlineKeySet: present(environment.SUPABASE_JWKS)[0],
    issuers: list(environment.FENCEPOST_JWT_ISSUER) ?? [`${supabaseUrl}/auth/v1`],
    audience: environment.FENCEPOST_JWT_AUDIENCE?.trim() || 'authenticated',
    allowedOrigins: origins(environment) ?? ['*'],
    databaseTimeoutMs: milliseconds(environment, 'FENCEPOST_DATABASE_TIMEOUT_MS', 10_000),
    cacheTimeoutMs: milliseconds(environment, 'FENCEPOST_CACHE_TIMEOUT_MS', 250),
  };
}

function required(environment: Environment, name: string): string {
  const value = environment[name];
  if (value === undefined || value === '') throw new Problem('MISCONFIGURED', `Set ${name}.`);
  return value;
}

function present(value: string | undefined): string[] {
  return value === undefined || value === '' ? [] : [value];
}

function list(value: string | undefined): string[] | undefined {
  const entries = (value ?? '')
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  return entries.length === 0 ? undefined : entries;
}

/** Browsers send an origin without a trailing slash; people write it with one. */
function origins(environment: Environment): string[] | undefined {
  return list(environment.FENCEPOST_ALLOWED_ORIGINS)?.map((origin) => origin.replace(/\/$/, ''));
}

function baseUrl(value: string): string {
  if (!URL.canParse(value)) {
    throw new Problem(
      'MISCONFIGURED',
      'SUPABASE_URL is no address; it looks like https://<ref>.supabase.co.',
    );
  }
  return value.replace(/\/+$/, '');
}

function milliseconds(environment: Environment, name: string, fallback: number): number {
  const value = environment[name];
  if (value === undefined || value === '') return fallback;
  const parsed = Number(value);
  if (!Number.isInteger(parsed) || parsed <= 0) {
    throw new Problem('MISCONFIGURED', `${name} must be a whole number of milliseconds above 0.`);
  }
  return parsed;
}

/** The platform gives keys as a JSON object from names to keys, the one named `default` first here. */
function namedKeys(environment: Environment, name: string): string[] {
  const value = environment[name];
  if (value === undefined || value === '') return [];
  try {
    const parsed: unknown = JSON.parse(value);
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) {
      const entries = Object.entries(parsed as Record<string, unknown>);
      entries.sort(([a], [b]) => Number(b === 'default') - Number(a === 'default'));
      return entries
        .map(([, key]) => key)
        .filter((key): key is string => typeof key === 'string' && key !== '');
    }
  } catch {
    // Said below, without repeating the value: it is a secret.
  }
  throw new Problem('MISCONFIGURED', `${name} must be a JSON object of names and keys.`);
}
