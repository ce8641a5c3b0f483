/**
 * Stands in for Supabase's platform in front of a project without a shared secret. It publishes the key set of the project's Auth,
 * and replaces publishable and secret keys, which are not JWTs, by short-lived tokens of their roles.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWTPayload, SignJWT } from 'jose';
import type { Part } from '../../../local/parts/part.ts';
import { startPostgrest } from '../../../local/parts/postgrest.ts';

export const PUBLISHABLE_KEY = 'sb_publishable_of_the_tests';
export const SECRET_KEY = 'sb_secret_of_the_tests';

export interface Platform extends Part {
  /** The functions' SUPABASE_URL. */
  readonly url: string;
  /** Signs a token as this project's Auth does. */
  sign(claims: JWTPayload): Promise<string>;
  /** How often the key set was fetched. */
  keySetRequests(): number;
}

export async function startPlatform(databaseUrl: string): Promise<Platform> {
  const pair = await generateKeyPair('ES256', { extractable: true });
  const keySet = { keys: [{ ...(await exportJWK(pair.publicKey)), kid: 'tests', alg: 'ES256', use: 'sig' }] };
  const postgrest = await startPostgrest({ databaseUrl, jwtSecret: JSON.stringify(keySet) });
  let keySetRequests = 0;
  let url = '';

  const sign = (claims: JWTPayload) =>
    new SignJWT({ iss: `${url}/auth/v1`, aud: 'authenticated', ...claims })
      .setProtectedHeader({ alg: 'ES256', kid: 'tests' })
      .setIssuedAt()
      .setExpirationTime('5 minutes')
      .sign(pair.privateKey);

  const server = createServer(async (request, response) => {
    if (request.url === '/auth/v1/.well-known/jwks.json') {
      keySetRequests += 1;
      response.setHeader('content-type', 'application/json').end(JSON.stringify(keySet));
      return;
    }
    const key = String(request.headers.apikey ?? '');
    const roles: Readonly<Record<string, string>> = {
      [PUBLISHABLE_KEY]: 'anon',
      [SECRET_KEY]: 'service_role',
    };
    const role = roles[key];
    if (role === undefined) {
      response.writeHead(401).end('{"message":"Invalid API key"}');
      return;
    }
    const bearer = request.headers.authorization;
    const isKeyItself = bearer === undefined || bearer === `Bearer ${key}`;
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    const forwarded = await fetch(`${postgrest.apiUrl}${request.url}`, {
      method: request.method ?? 'GET',
      headers: {
        ...(request.headers as Record<string, string>),
        authorization: isKeyItself ? `Bearer ${await sign({ role })}` : bearer,
        connection: 'close',
      },
      ...(chunks.length > 0 ? { body: Buffer.concat(chunks) } : {}),
    });
    response
      .writeHead(forwarded.status, { 'content-type': forwarded.headers.get('content-type') ?? 'text/plain' })
      .end(Buffer.from(await forwarded.arrayBuffer()));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    name: 'platform',
    url,
    sign,
    keySetRequests: () => keySetRequests,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await postgrest.stop();
    },
  };
}
