/**
 * Reads the functions' settings from the environment, in Deno and in Node, once per isolate. All settings are checked at once, so a
 * malformed one fails the first request of an isolate and not a later one.
 */
import { httpAddress, quotesProblem, trimmed } from '../cache/protocol/environment.ts';
import { canMatch } from './origins.ts';
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

/** One variable: trimmed, and undefined when it is empty or not set. @throws Problem MISCONFIGURED for a value in quotes */
type Read = (name: string) => string | undefined;

/** The longest time that a timer takes. */
const LONGEST_MS = 2_147_483_647;

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
  const read: Read = (name) => {
    const value = trimmed(environment[name]);
    const problem = value === undefined ? null : quotesProblem(value);
    if (problem !== null) throw misconfigured(name, problem);
    return value;
  };
  const supabaseUrl = baseUrl(read);
  const publishable = namedKeys(read, 'SUPABASE_PUBLISHABLE_KEYS');
  const secret = namedKeys(read, 'SUPABASE_SECRET_KEYS');
  const publicKeys = [...publishable, ...present(read('SUPABASE_ANON_KEY'))];
  const [publicKey] = publicKeys;
  if (publicKey === undefined) {
    throw new Problem('MISCONFIGURED', 'Set SUPABASE_PUBLISHABLE_KEYS or SUPABASE_ANON_KEY.');
  }
  return {
    supabaseUrl,
    publicKey,
    publicKeys,
    secretKeys: [...secret, ...present(read('SUPABASE_SERVICE_ROLE_KEY'))],
    jwtSecret: sharedSecret(read, environment),
    inlineKeySet: read('SUPABASE_JWKS'),
    issuers: list(read('FENCEPOST_JWT_ISSUER')) ?? [`${supabaseUrl}/auth/v1`],
    audience: read('FENCEPOST_JWT_AUDIENCE') ?? 'authenticated',
    allowedOrigins: origins(read),
    databaseTimeoutMs: milliseconds(read, 'FENCEPOST_DATABASE_TIMEOUT_MS', 10_000),
    cacheTimeoutMs: milliseconds(read, 'FENCEPOST_CACHE_TIMEOUT_MS', 250),
  };
}

function misconfigured(name: string, problem: string): Problem {
  return new Problem('MISCONFIGURED', `${name} ${problem}.`);
}

function present(value: string | undefined): string[] {
  return value === undefined ? [] : [value];
}

function list(value: string | undefined): string[] | undefined {
  const entries = (value ?? '')
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  return entries.length === 0 ? undefined : entries;
}

function baseUrl(read: Read): string {
  const value = read('SUPABASE_URL');
  if (value === undefined) throw new Problem('MISCONFIGURED', 'Set SUPABASE_URL.');
  const address = httpAddress(value, 'https://<ref>.supabase.co');
  if (address.problem !== null) throw misconfigured('SUPABASE_URL', address.problem);
  return address.url;
}

/** White space around a secret may be part of it, so it is not taken away: whether it belongs there, only people know. */
function sharedSecret(read: Read, environment: Environment): string | undefined {
  const value = read('FENCEPOST_JWT_SECRET');
  if (value !== undefined && environment.FENCEPOST_JWT_SECRET !== value) {
    const problem =
      'begins or ends with a line break or a space, so that no token would fit it: set it again without';
    throw misconfigured('FENCEPOST_JWT_SECRET', problem);
  }
  return value;
}

/** @throws Problem MISCONFIGURED for an origin that no browser would ever send */
function origins(read: Read): string[] {
  const entries = list(read('FENCEPOST_ALLOWED_ORIGINS')) ?? ['*'];
  return entries.map((entry, index) => {
    // People write a slash at the end, but browsers send an origin without it.
    const origin = entry.replace(/\/+$/, '');
    if (canMatch(origin)) return origin;
    throw misconfigured(
      'FENCEPOST_ALLOWED_ORIGINS',
      `can never match in entry ${index + 1}: write what browsers send, scheme and host in lower case, a port that is not the ` +
        'default, and no path, as in https://app.example.com, or https://*.example.com for all hosts below one',
    );
  });
}

function milliseconds(read: Read, name: string, fallback: number): number {
  const value = read(name);
  if (value === undefined) return fallback;
  const parsed = Number(value);
  if (!Number.isInteger(parsed) || parsed <= 0 || parsed > LONGEST_MS)
    throw misconfigured(name, `must be a whole number of milliseconds from 1 to ${LONGEST_MS}`);
  return parsed;
}

/** The keys in a JSON object of names and keys, which is how the platform passes them. The one named `default` comes first. */
function namedKeys(read: Read, name: string): string[] {
  const value = read(name);
  if (value === undefined) return [];
  try {
    const parsed: unknown = JSON.parse(value);
    if (typeof parsed === 'object' && parsed !== null && !Array.isArray(parsed)) {
      const entries = Object.entries(parsed as Record<string, unknown>);
      entries.sort(([a], [b]) => Number(b === 'default') - Number(a === 'default'));
      return entries.flatMap(([, key]) => (typeof key === 'string' ? present(trimmed(key)) : []));
    }
  } catch {
    // Reported below, without the value: it is a secret.
  }
  throw misconfigured(name, 'must be a JSON object of names and keys');
}
