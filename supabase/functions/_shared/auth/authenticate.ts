/**
 * Who is calling: verifies the token of a request in code, before its parameters are looked at.
 *
 * Accepted, in this order of precedence:
 * - `Authorization: Bearer <JWT>` of the project's Auth: asymmetric keys through its JWKS, or the legacy shared secret;
 * - one of the project's own keys, in `Authorization` or in `apikey`: secret keys (`sb_secret_…`) and the legacy service_role
 *   key are the service; publishable keys (`sb_publishable_…`) and the legacy anon key are nobody in particular. They are not
 *   verified but compared, since the new ones are no JWTs and the legacy ones carry neither issuer nor audience.
 *
 * The algorithm is never taken from the token alone: HS256 is tried with the shared secret only, all others with keys of the
 * JWKS only, and `none` with nothing. So a public key cannot be used as a shared secret.
 */
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
  jwtVerify,
} from 'jose';
import { Problem } from '../http/problem.ts';
import type { FunctionSettings } from '../http/settings.ts';

export type Caller =
  /** A signed-in user; `userId` is a lower-case UUID. */
  | { readonly kind: 'user'; readonly userId: string; readonly token: string }
  /** The project's backend, which row-level security does not bind. */
  | { readonly kind: 'service'; readonly token: string }
  /** Someone with no more than a public key. */
  | { readonly kind: 'anonymous'; readonly token: string };

export type Authenticate = (request: Request) => Promise<Caller>;

/** What Supabase Auth signs with. Each is tied to its kind of key by the verifier. */
const ASYMMETRIC_ALGORITHMS = ['ES256', 'RS256', 'EdDSA'];
/** Clocks of two machines differ by this much at most. */
const CLOCK_TOLERANCE_SECONDS = 5;
/** A token of Auth with a dozen custom claims has a quarter of it. */
const MAX_TOKEN_LENGTH = 8_192;
/** How jose reports that the key set could not be fetched or was no key set. */
const KEYS_OUT_OF_REACH = ['ERR_JOSE_GENERIC', 'ERR_JWKS_TIMEOUT', 'ERR_JWKS_INVALID'];
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

type AuthSettings = Pick<
  FunctionSettings,
  'supabaseUrl' | 'publicKeys' | 'secretKeys' | 'jwtSecret' | 'inlineKeySet' | 'issuers' | 'audience'
>;

/**
 * Makes the verifier of an isolate; fetched keys are kept in it.
 * @throws (the returned function) Problem TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED, AUTH_UNAVAILABLE
 */
export function createAuthenticate(settings: AuthSettings): Authenticate {
  const secret = settings.jwtSecret === undefined ? undefined : new TextEncoder().encode(settings.jwtSecret);
  const keySet = createKeySet(settings);
  const isSecretKey = matcher(settings.secretKeys);
  const isPublicKey = matcher(settings.publicKeys);

  return async (request) => {
    const token = presentedToken(request);
    if (token.length > MAX_TOKEN_LENGTH) throw invalidToken('The token is too long.');
    const presented = await digest(token);
    if (await isSecretKey(presented)) return { kind: 'service', token };
    if (await isPublicKey(presented)) return { kind: 'anonymous', token };
    if (token.startsWith('sb_')) throw invalidToken('This key is not one of the project.');
    const payload = await verify(token);
    return callerOf(payload, token);
  };

  async function verify(token: string): Promise<JWTPayload> {
    let algorithm: string | undefined;
    try {
      algorithm = decodeProtectedHeader(token).alg;
    } catch (cause) {
      throw invalidToken('The token is not a JWT.', cause);
    }
    const expected = {
      issuer: [...settings.issuers],
      audience: settings.audience,
      clockTolerance: CLOCK_TOLERANCE_SECONDS,
      requiredClaims: ['exp'],
    };
    try {
      if (algorithm === 'HS256' && secret !== undefined) {
        return (await jwtVerify(token, secret, { ...expected, algorithms: ['HS256'] })).payload;
      }
      if (algorithm !== undefined && ASYMMETRIC_ALGORITHMS.includes(algorithm)) {
        return (await jwtVerify(token, keySet, { ...expected, algorithms: ASYMMETRIC_ALGORITHMS })).payload;
      }
    } catch (cause) {
      throw asTokenProblem(cause);
    }
    throw invalidToken("The token's algorithm is not accepted here.");
  }
}

/** The keys of the project: those the platform gave inline first, then those it publishes. */
function createKeySet(settings: AuthSettings): JWTVerifyGetKey {
  const remote = createRemoteJWKSet(new URL(`${settings.supabaseUrl}/auth/v1/.well-known/jwks.json`), {
    timeoutDuration: 3_000,
  });
  if (settings.inlineKeySet === undefined) return remote;
  const inline = createLocalJWKSet(parseKeySet(settings.inlineKeySet));
  return async (header, token) => {
    try {
      return await inline(header, token);
    } catch (error) {
      // A key that was rotated in after this isolate's environment was made.
      if (error instanceof errors.JWKSNoMatchingKey) return remote(header, token);
      throw error;
    }
  };
}

function parseKeySet(text: string): JSONWebKeySet {
  try {
    const parsed: unknown = JSON.parse(text);
    const keys: unknown = Array.isArray(parsed) ? parsed : (parsed as { keys?: unknown } | null)?.keys;
    if (Array.isArray(keys)) return { keys };
  } catch {
    // Said below.
  }
  throw new Problem('MISCONFIGURED', 'SUPABASE_JWKS must be a JSON Web Key Set.');
}

function presentedToken(request: Request): string {
  const authorization = request.headers.get('authorization');
  if (authorization !== null) {
    const bearer = /^Bearer +([^\s,]+)$/i.exec(authorization)?.[1];
    if (bearer === undefined) throw invalidToken('Send one token: `Authorization: Bearer <token>`.');
    return bearer;
  }
  const key = request.headers.get('apikey');
  if (key !== null && key !== '') return key;
  throw new Problem('TOKEN_MISSING', 'Sign in and send the token as `Authorization: Bearer <token>`.', {
    headers: { 'www-authenticate': 'Bearer' },
  });
}

function callerOf(payload: JWTPayload, token: string): Caller {
  if (payload.role === 'service_role') return { kind: 'service', token };
  if (payload.role === 'anon') return { kind: 'anonymous', token };
  const userId = payload.sub?.toLowerCase();
  if (payload.role !== 'authenticated' || userId === undefined || !UUID.test(userId)) {
    throw invalidToken('The token is of no signed-in user.');
  }
  return { kind: 'user', userId, token };
}

/** Tells whether a token is one of the keys, in a time that does not tell how much of it was right. */
function matcher(keys: readonly string[]): (presented: Uint8Array) => Promise<boolean> {
  const expected = Promise.all(keys.map(digest));
  return async (presented) => {
    let found = false;
    for (const key of await expected) {
      let difference = 0;
      for (const [index, byte] of key.entries()) difference |= byte ^ (presented[index] ?? 0);
      if (difference === 0) found = true;
    }
    return found;
  };
}

async function digest(text: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(text)));
}

function asTokenProblem(cause: unknown): Problem {
  if (cause instanceof errors.JWTExpired) {
    return new Problem('TOKEN_EXPIRED', 'The token has expired. Sign in again or refresh it.', {
      headers: { 'www-authenticate': 'Bearer error="invalid_token", error_description="expired"' },
      cause,
    });
  }
  if (cause instanceof errors.JWTClaimValidationFailed) {
    return invalidToken(`The token's claim "${cause.claim}" is not right for this project.`, cause);
  }
  // Anything else that jose names by a code of a token or key is the token's fault; not being able to fetch the keys is not.
  const code = cause instanceof errors.JOSEError ? cause.code : undefined;
  if (code === undefined || KEYS_OUT_OF_REACH.includes(code)) {
    return new Problem('AUTH_UNAVAILABLE', 'The keys to check the token with are out of reach. Try again.', {
      headers: { 'retry-after': '5' },
      cause,
    });
  }
  return invalidToken('The token could not be verified.', cause);
}

function invalidToken(detail: string, cause?: unknown): Problem {
  return new Problem('TOKEN_INVALID', detail, {
    headers: { 'www-authenticate': 'Bearer error="invalid_token"' },
    ...(cause === undefined ? {} : { cause }),
  });
}
