/**
 * JWTs as Supabase issues them: HS256, `iss` the project's auth endpoint, `aud` and `role` as PostgREST and the edge
 * functions expect them. For the local stack and for tests; nothing here is used against a real project.
 */
import { SignJWT } from 'jose';

export type TokenRole = 'anon' | 'authenticated' | 'service_role';

/** The member of the seeded organisation `org-acme` (supabase/seed.sql). */
export const SEEDED_USER = '11111111-1111-4111-8111-111111111111';

export interface TokenOptions {
  /** HS256 key, at least 32 bytes: PostgREST refuses shorter ones. */
  readonly secret: string;
  /** Without a slash at the end. */
  readonly apiUrl: string;
  readonly role: TokenRole;
  /** The user id; only for `authenticated`. */
  readonly subject?: string;
  /** When the token ends, seconds from now; negative for an expired one. Default ten years, as Supabase's API keys. */
  readonly expiresIn?: number;
  /** Further claims, e.g. `app_metadata`; they win over the standard ones. */
  readonly claims?: Readonly<Record<string, unknown>>;
}

/** Signs one token. */
export async function signToken(options: TokenOptions): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const expiresIn = options.expiresIn ?? 10 * 365 * 24 * 3600;
  return await new SignJWT({
    iss: `${options.apiUrl}/auth/v1`,
    aud: 'authenticated',
    role: options.role,
    ...(options.subject === undefined ? {} : { sub: options.subject }),
    iat: Math.min(now, now + expiresIn) - 1,
    exp: now + expiresIn,
    ...options.claims,
  })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .sign(new TextEncoder().encode(options.secret));
}

/** The three tokens of a local stack. */
export async function stackTokens(
  secret: string,
  apiUrl: string,
): Promise<{ anonToken: string; userToken: string; serviceToken: string }> {
  const [anonToken, userToken, serviceToken] = await Promise.all([
    signToken({ secret, apiUrl, role: 'anon' }),
    signToken({ secret, apiUrl, role: 'authenticated', subject: SEEDED_USER }),
    signToken({ secret, apiUrl, role: 'service_role' }),
  ]);
  return { anonToken, userToken, serviceToken };
}
