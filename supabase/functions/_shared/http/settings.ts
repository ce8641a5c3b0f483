/**
 * Reads the functions' settings from the environment, in Deno and in Node, once per isolate. All settings are checked at once, so a
 * malformed one fails the first request of an isolate and not a later one.
 */
import { Problem } from './problem.ts';

export interface FunctionSettings {
  /** Base address of the project's API, without a trailing slash. */
  readonly supabaseUrl: string;
  /** The `apikey` of database requests for signed-in users: a publishable key, or the legacy anon key. */
  readonly publicKey: string;
  /** Publishable keys (`sb_publishable_…`) and the legacy anon key. Whoever presents one is anonymous. */
  readonly publicKeys: readonly string[];
  /** Secret keys (`sb_secret_…`) and the legacy service_role key. Whoever presents one is the service. */
  readonly secretKeys: readonly string[];
  /** The project's legacy shared secret. Without it no HS256 token is accepted. */
  readonly jwtSecret: string | undefined;
  /** A JSON Web Key Set from the platform. Keys that are not in it are fetched from the project. */
  readonly inlineKeySet: string | undefined;
  readonly issuers: readonly string[];
  readonly audience: string;
  /** Origins that browsers may call from, or `*`. */
  readonly allowedOrigins: readonly string[];
  /** How long a database query may take, in milliseconds. */
  readonly databaseTimeoutMs: number;
  /** How long a cache read may take, in milliseconds. After that the database is queried. */
  readonly cacheTimeoutMs: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** The environment variables of the process, in Deno or in Node. */
function processEnvironment(): Environment {
  const runtime = globalThis as {
    Deno?: { env: { toObject(): Record<string, string> } };
    process?: { env: Environment };
  };
  return runtime.Deno?.env.toObject() ?? runtime.process?.env ?? {};
}

/**
 * Reads and checks the settings.
 * @throws Problem MISCONFIGURED, which names the variable that is missing or malformed
 */
export function readSettings(environment: Environment = processEnvironment()): FunctionSettings {
  const supabaseUrl = baseUrl(required(environment, 'SUPABASE_URL'));
  const publishable = namedKeys(environment, 'SUPABASE_PUBLISHABLE_KEYS');
  const secret = namedKeys(environment, 'SUPABASE_SECRET_KEYS');
  const publicKeys = [...publishable, ...nonEmpty(environment.SUPABASE_ANON_KEY)];
  const [publicKey] = publicKeys;
  if (publicKey === undefined) {
    throw new Problem('MISCONFIGURED', 'Set SUPABASE_PUBLISHABLE_KEYS or SUPABASE_ANON_KEY.');
  }
  return {
    supabaseUrl,
    publicKey,
    publicKeys,
    secretKeys: [...secret, ...nonEmpty(environment.SUPABASE_SERVICE_ROLE_KEY)],
    jwtSecret: nonEmpty(environment.FENCEPOST_JWT_SECRET)[0],
    inlineKeySet: nonEmpty(environment.SUPABASE_JWKS)[0],
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

function nonEmpty(value: string | undefined): string[] {
  return value === undefined || value === '' ? [] : [value];
}

function list(value: string | undefined): string[] | undefined {
  const entries = (value ?? '')
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  return entries.length === 0 ? undefined : entries;
}

/** Removes a trailing slash: people write it, but browsers send an origin without it. */
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

/** The keys in a JSON object of names and keys, which is how the platform passes them. The one named `default` comes first. */
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
    // Reported below, without the value: it is a secret.
  }
  throw new Problem('MISCONFIGURED', `${name} must be a JSON object of names and keys.`);
}
