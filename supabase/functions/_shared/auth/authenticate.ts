/**
 * Finds out who is calling, from the token of the request. Functions call it before they read any parameter.
 *
 * Accepted:
 * - `Authorization: Bearer <JWT>` from the project's Auth, signed with an asymmetric key of its JWKS or the legacy shared secret.
 * - One of the project's own keys, in `Authorization` or, when that header is absent, in `apikey`. Secret keys (`sb_secret_…`) and
 *   the legacy service_role key are the service. Publishable keys (`sb_publishable_…`) and the legacy anon key are anonymous. These
 *   keys are compared and not verified: the new ones are not JWTs, and the legacy ones have neither issuer nor audience.
 *
 * The token alone never chooses the algorithm. HS256 is verified with the shared secret only, the asymmetric algorithms with the
 * JWKS only, and `none` is refused. So nobody can sign a token with a public key as the shared secret.
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
  /** A signed-in user. `userId` is a lower-case UUID, as the database writes it. */
  | { readonly kind: 'user'; readonly userId: string; readonly token: string }
  /** The project's backend. Row-level security does not apply to it. */
  | { readonly kind: 'service'; readonly token: string }
  /** Somebody with a public key only. */
  | { readonly kind: 'anonymous'; readonly token: string };

export type Authenticate = (request: Request) => Promise<Caller>;

/** What Supabase Auth signs with. jose accepts each with its own kind of key only. */
const ASYMMETRIC_ALGORITHMS = ['ES256', 'RS256', 'EdDSA'];
/** The clocks of Auth and of this machine may differ by this much. */
const CLOCK_TOLERANCE_SECONDS = 5;
/** A token of Auth with a dozen custom claims has about 2 000 characters. */
const MAX_TOKEN_LENGTH = 8_192;
/** The codes with which jose reports that the key set could not be fetched or is malformed. */
const KEY_SET_ERRORS = ['ERR_JOSE_GENERIC', 'ERR_JWKS_TIMEOUT', 'ERR_JWKS_INVALID'];
const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

type AuthSettings = Pick<
  FunctionSettings,
  'supabaseUrl' | 'publicKeys' | 'secretKeys' | 'jwtSecret' | 'inlineKeySet' | 'issuers' | 'audience'
>;

/**
 * Makes the verifier of an isolate. It keeps the keys that it fetches.
 * @returns a function that throws Problem TOKEN_MISSING, TOKEN_INVALID, TOKEN_EXPIRED or AUTH_UNAVAILABLE
 */
export function createAuthenticate(settings: AuthSettings): Authenticate {
  const secret = settings.jwtSecret === undefined ? undefined : new TextEncoder().encode(settings.jwtSecret);
  const keySet = createKeySet(settings);
  const isSecretKey = createKeyMatcher(settings.secretKeys);
  const isPublicKey = createKeyMatcher(settings.publicKeys);

  return async (request) => {
    const token = tokenOf(request);
    if (token.length > MAX_TOKEN_LENGTH) throw invalidToken('The token is too long.');
    const tokenDigest = await digest(token);
    if (await isSecretKey(tokenDigest)) return { kind: 'service', token };
    if (await isPublicKey(tokenDigest)) return { kind: 'anonymous', token };
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

/** The keys of the project: first those in the environment, then those that it publishes. */
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
      // The key was added after this isolate got its environment.
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
    // Reported below.
  }
  throw new Problem('MISCONFIGURED', 'SUPABASE_JWKS must be a JSON Web Key Set.');
}

function tokenOf(request: Request): string {
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

/** Compares the digest of a token with those of the keys, in a time that does not depend on how many bytes are equal. */
function createKeyMatcher(keys: readonly string[]): (tokenDigest: Uint8Array) => Promise<boolean> {
  const digests = Promise.all(keys.map(digest));
  return async (tokenDigest) => {
    let isFound = false;
    for (const keyDigest of await digests) {
      let difference = 0;
      for (const [index, byte] of keyDigest.entries()) difference |= byte ^ (tokenDigest[index] ?? 0);
      if (difference === 0) isFound = true;
    }
    return isFound;
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
  // jose gives every fault of a token its own code. Any other error means that the keys could not be fetched.
  const code = cause instanceof errors.JOSEError ? cause.code : undefined;
  if (code === undefined || KEY_SET_ERRORS.includes(code)) {
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
