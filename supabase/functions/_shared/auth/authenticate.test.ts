import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Problem } from '../http/problem.ts';
import { type Authenticate, createAuthenticate } from './authenticate.ts';

const secret = 'a shared secret of at least thirty-two characters';
const userId = '11111111-1111-4111-8111-111111111111';
const signedIn = { role: 'authenticated', sub: userId };

let project: Server;
let supabaseUrl: string;
let isPublishing = true;
let publicJwk: Awaited<ReturnType<typeof exportJWK>>;
let privateKey: CryptoKey;
let authenticate: Authenticate;

beforeAll(async () => {
  const pair = await generateKeyPair('ES256', { extractable: true });
  privateKey = pair.privateKey;
  publicJwk = { ...(await exportJWK(pair.publicKey)), kid: 'current', alg: 'ES256', use: 'sig' };
  // Stands in for a project's Auth: it publishes the key set.
  project = createServer((request, response) => {
    const isKeySet = request.url === '/auth/v1/.well-known/jwks.json' && isPublishing;
    response.writeHead(isKeySet ? 200 : 500, { 'content-type': 'application/json' });
    response.end(isKeySet ? JSON.stringify({ keys: [publicJwk] }) : '{}');
  });
  await new Promise<void>((resolve) => project.listen(0, '127.0.0.1', resolve));
  supabaseUrl = `http://127.0.0.1:${(project.address() as AddressInfo).port}`;
  authenticate = createAuthenticate(settings());
});

afterAll(() => new Promise((resolve) => project.close(resolve)));

function settings(change: object = {}) {
  return {
    supabaseUrl,
    publicKeys: ['sb_publishable_one', 'legacy-anon-key'],
    secretKeys: ['sb_secret_one', 'sb_secret_two'],
    jwtSecret: secret,
    inlineKeySet: undefined,
    issuers: [`${supabaseUrl}/auth/v1`],
    audience: 'authenticated',
    ...change,
  };
}

/** A token of the project's Auth, with the changes of the test. */
function sign(
  claims: JWTPayload,
  change: { key?: CryptoKey | Uint8Array; header?: object; expires?: string } = {},
) {
  const token = new SignJWT({ iss: `${supabaseUrl}/auth/v1`, aud: 'authenticated', ...claims })
    .setProtectedHeader({ alg: 'ES256', kid: 'current', ...change.header })
    .setIssuedAt();
  if (claims.exp === undefined) token.setExpirationTime(change.expires ?? '5 minutes');
  return token.sign(change.key ?? privateKey);
}

const signLegacy = (claims: JWTPayload, expires?: string) =>
  sign(claims, {
    key: new TextEncoder().encode(secret),
    header: { alg: 'HS256' },
    ...(expires === undefined ? {} : { expires }),
  });

const bearer = (token: string) =>
  new Request('http://functions.test', { headers: { authorization: `Bearer ${token}` } });

async function refusal(request: Request, by = authenticate): Promise<Problem> {
  const outcome = await by(request).catch((error: unknown) => error);
  if (outcome instanceof Problem) return outcome;
  throw new Error(`Not refused: ${JSON.stringify(outcome)}`);
}

describe('accepts', () => {
  it('a user with an asymmetric key of the project', async () => {
    const token = await sign(signedIn);
    expect(await authenticate(bearer(token))).toEqual({ kind: 'user', userId, token });
  });

  it('a user with the legacy shared secret, and makes the id lower-case as in the database', async () => {
    const token = await signLegacy({ ...signedIn, sub: userId.toUpperCase() });
    expect(await authenticate(bearer(token))).toEqual({ kind: 'user', userId, token });
  });

  it.each([
    ['service_role', 'service'],
    ['anon', 'anonymous'],
  ])('a token of the role %s as %s', async (role, kind) => {
    expect(await authenticate(bearer(await signLegacy({ role })))).toMatchObject({ kind });
  });

  it.each([
    ['sb_secret_two', 'service'],
    ['sb_publishable_one', 'anonymous'],
    ['legacy-anon-key', 'anonymous'],
  ])('the key %s as %s, in either header', async (key, kind) => {
    expect(await authenticate(bearer(key))).toMatchObject({ kind });
    const inApikey = new Request('http://functions.test', { headers: { apikey: key } });
    expect(await authenticate(inApikey)).toMatchObject({ kind });
  });

  it('the token in Authorization, and ignores the key in apikey beside it', async () => {
    const request = bearer(await sign(signedIn));
    request.headers.set('apikey', 'sb_publishable_one');
    expect(await authenticate(request)).toMatchObject({ kind: 'user' });
  });

  it('keys of the environment, and keys that were published later', async () => {
    const old = await exportJWK((await generateKeyPair('ES256', { extractable: true })).publicKey);
    const inlineKeySet = JSON.stringify({ keys: [{ ...old, kid: 'old', alg: 'ES256' }] });
    const withInline = createAuthenticate(settings({ inlineKeySet }));
    expect(await withInline(bearer(await sign(signedIn)))).toMatchObject({ kind: 'user' });
  });
});

it.each(['{}', 'null', '"keys"', 'not JSON'])(
  'reports that SUPABASE_JWKS=%s is not a key set',
  (inlineKeySet) => {
    expect(() => createAuthenticate(settings({ inlineKeySet }))).toThrow(
      expect.objectContaining({ code: 'MISCONFIGURED' }),
    );
  },
);

describe('refuses', () => {
  it('a request without a token', async () => {
    expect(await refusal(new Request('http://functions.test'))).toMatchObject({
      code: 'TOKEN_MISSING',
      status: 401,
    });
  });

  it('an expired token, with a code of its own', async () => {
    const problem = await refusal(
      bearer(await sign({ ...signedIn, exp: Math.floor(Date.now() / 1000) - 60 })),
    );
    expect(problem).toMatchObject({ code: 'TOKEN_EXPIRED', status: 401 });
  });

  const invalid: readonly (readonly [string, () => Promise<string>])[] = [
    ['another issuer', () => sign({ ...signedIn, iss: 'https://evil.test/auth/v1' })],
    ['another audience', () => sign({ ...signedIn, aud: 'another' })],
    ['no subject', () => sign({ role: 'authenticated' })],
    ['a subject that is no user id', () => sign({ ...signedIn, sub: "x' or true --" })],
    ['an unknown role', () => sign({ ...signedIn, role: 'postgres' })],
    ['a time before it is valid', () => sign({ ...signedIn, nbf: Math.floor(Date.now() / 1000) + 600 })],
    [
      'a key of another project',
      async () => sign(signedIn, { key: (await generateKeyPair('ES256')).privateKey }),
    ],
    ['an unknown key id', () => sign(signedIn, { header: { kid: 'unheard-of' } })],
    [
      'another shared secret',
      () =>
        sign(signedIn, {
          key: new TextEncoder().encode('not the shared secret, but as long'),
          header: { alg: 'HS256' },
        }),
    ],
    [
      'the public key used as a shared secret',
      () =>
        sign(signedIn, {
          key: new TextEncoder().encode(JSON.stringify(publicJwk)),
          header: { alg: 'HS256' },
        }),
    ],
    [
      'a changed claim',
      async () => {
        const [head, , signature] = (await sign(signedIn)).split('.');
        const claims = {
          ...signedIn,
          role: 'service_role',
          iss: `${supabaseUrl}/auth/v1`,
          aud: 'authenticated',
          exp: 4e9,
        };
        return [head, encode(claims), signature].join('.');
      },
    ],
    [
      'alg none',
      async () => [encode({ alg: 'none', typ: 'JWT' }), encode({ ...signedIn, exp: 4e9 }), ''].join('.'),
    ],
    [
      'alg none with a signature',
      async () =>
        [
          encode({ alg: 'none' }),
          encode({ ...signedIn, exp: 4e9 }),
          (await sign(signedIn)).split('.')[2],
        ].join('.'),
    ],
    ['no JWT', async () => 'rubbish'],
    ['a key of another project', async () => 'sb_secret_of_another_project'],
    ['9 kB', async () => 'a'.repeat(9_000)],
  ];
  it.each(invalid)('a token with %s', async (_what, make) => {
    expect(await refusal(bearer(await make()))).toMatchObject({ code: 'TOKEN_INVALID', status: 401 });
  });

  it('a token without an expiry', async () => {
    const forever = await new SignJWT({ ...signedIn, iss: `${supabaseUrl}/auth/v1`, aud: 'authenticated' })
      .setProtectedHeader({ alg: 'ES256', kid: 'current' })
      .sign(privateKey);
    expect(await refusal(bearer(forever))).toMatchObject({ code: 'TOKEN_INVALID' });
  });

  it('the shared secret where the project has none', async () => {
    const modern = createAuthenticate(settings({ jwtSecret: undefined }));
    expect(await refusal(bearer(await signLegacy(signedIn)), modern)).toMatchObject({
      code: 'TOKEN_INVALID',
    });
  });

  it.each(['Basic dXNlcjpwYXNz', 'Bearer', 'Bearer a, Bearer b'])('the header %j', async (authorization) => {
    const request = new Request('http://functions.test', { headers: { authorization } });
    expect(await refusal(request)).toMatchObject({ code: 'TOKEN_INVALID', status: 401 });
  });

  it('every token while the keys cannot be fetched, with a code that says so', async () => {
    const cold = createAuthenticate(settings());
    isPublishing = false;
    try {
      const problem = await refusal(bearer(await sign(signedIn)), cold);
      expect(problem).toMatchObject({ code: 'AUTH_UNAVAILABLE', status: 503 });
    } finally {
      isPublishing = true;
    }
  });
});

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
