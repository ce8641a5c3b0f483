/**
 * An Upstash-compatible REST gateway in front of a Redis: what the local stack and the tests talk to where production
 * talks to Upstash. Checked against the real @upstash/redis client in tests/local/gateway.test.ts, used nowhere else.
 *
 * It counts what Upstash would bill: every command of a request that was let through, whatever its outcome; refused
 * requests (wrong token, malformed, not available) cost nothing.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { HttpBindings } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { startHttp } from '../parts/http.ts';
import { once, type Part } from '../parts/part.ts';
import { type Answer, answerOf } from './answer.ts';
import { BackendUnavailable, connectBackend } from './backend.ts';
import { type RedisCommand, refusalOf } from './commands.ts';
import {
  parseCommand,
  parseCommands,
  parsePath,
  RequestRefused,
  readBody,
  tokenOf,
  tooLarge,
} from './request.ts';

export interface GatewayOptions {
  readonly redisUrl: string;
  /** The bearer token of every request. */
  readonly token: string;
  /** Exactly this port; default any free one. */
  readonly port?: number;
  /** This port if it is free. */
  readonly preferredPort?: number;
  /** Default 10 MB, as Upstash's smaller plans. */
  readonly maxRequestBytes?: number;
}

export interface GatewayPart extends Part {
  readonly url: string;
  readonly token: string;
  /** Commands that Upstash would have billed since the start. */
  commandCount(): number;
  /** HTTP requests with a valid token since the start. */
  requestCount(): number;
}

type GatewayContext = Context<{ Bindings: HttpBindings }>;

/** @throws PartError PART_START_FAILED when Redis is away, PORT_TAKEN */
export async function startGateway(options: GatewayOptions): Promise<GatewayPart> {
  const limit = options.maxRequestBytes ?? 10 * 1024 * 1024;
  const backend = await connectBackend(options.redisUrl);
  const isToken = tokenCheck(options.token);
  let commands = 0;
  let requests = 0;

  const app = new Hono<{ Bindings: HttpBindings }>();
  app.use(async (c, next) => {
    if (!isToken(tokenOf(c.env.incoming))) throw new RequestRefused(401, unauthorised);
    if (!['GET', 'HEAD', 'POST', 'PUT'].includes(c.req.method)) {
      throw new RequestRefused(405, 'ERR method not allowed');
    }
    requests += 1;
    await next();
  });

  const runOne = async (c: GatewayContext, command: RedisCommand): Promise<Response> => {
    const refusal = refusalOf(command);
    if (refusal !== undefined) throw new RequestRefused(400, refusal);
    commands += 1;
    const [reply = null] = await backend.run([command]);
    const answer = answerOf(reply, wantsBase64(c));
    return send(answer, 'error' in answer ? 400 : 200, limit);
  };

  app.post('/', async (c) => await runOne(c, parseCommand(await readBody(c.env.incoming, limit))));

  app.post('/pipeline', async (c) => {
    const asked = parseCommands(await readBody(c.env.incoming, limit));
    const base64 = wantsBase64(c);
    const refusals = asked.map((command) =>
      command.length === 0 ? 'ERR empty pipeline command' : refusalOf(command),
    );
    const runnable = asked.filter((_, index) => refusals[index] === undefined);
    commands += runnable.length;
    const replies = (await backend.run(runnable)).values();
    const answers = refusals.map(
      (error): Answer => (error === undefined ? answerOf(replies.next().value ?? null, base64) : { error }),
    );
    return send(answers, 200, limit);
  });

  app.post('/multi-exec', async (c) => {
    const asked = parseCommands(await readBody(c.env.incoming, limit));
    for (const command of asked) {
      const refusal = command.length === 0 ? 'ERR empty transaction command' : refusalOf(command);
      if (refusal !== undefined) throw new RequestRefused(400, refusal);
    }
    commands += asked.length;
    const replies = await backend.transact(asked);
    if (replies instanceof Error) throw new RequestRefused(400, replies.message);
    const base64 = wantsBase64(c);
    return send(
      replies.map((reply) => answerOf(reply, base64)),
      200,
      limit,
    );
  });

  app.all('*', async (c) => {
    const { incoming } = c.env;
    const command = parsePath(incoming.url ?? '/', await readBody(incoming, limit));
    return await runOne(c, command);
  });

  app.onError((error) => {
    if (error instanceof RequestRefused)
      return Response.json({ error: error.message }, { status: error.status });
    if (error instanceof BackendUnavailable)
      return Response.json({ error: `ERR ${error.message}` }, { status: 503 });
    return Response.json({ error: 'ERR internal error' }, { status: 500 });
  });

  const server = await startHttp({
    name: 'Upstash gateway',
    fetch: (request, bindings) => app.fetch(request, bindings),
    port: options.port,
    preferredPort: options.preferredPort,
  }).catch((error: unknown) => {
    backend.close();
    throw error;
  });
  const stop = once(async () => {
    await server.stop();
    backend.close();
  });
  return {
    name: server.name,
    url: server.url,
    token: options.token,
    commandCount: () => commands,
    requestCount: () => requests,
    stop,
  };
}

const unauthorised =
  'WRONGPASS invalid or missing auth token. See https://docs.upstash.com/redis/troubleshooting/http_unauthorized for details.';

function wantsBase64(c: GatewayContext): boolean {
  return c.req.header('upstash-encoding') === 'base64';
}

/** The limit holds for answers too: a huge HGETALL fails at Upstash, so it fails here. */
function send(answer: Answer | readonly Answer[], status: number, limit: number): Response {
  const body = JSON.stringify(answer);
  if (body.length > limit) {
    return Response.json({ error: tooLarge(limit, body.length) }, { status: 400 });
  }
  return new Response(body, { status, headers: { 'content-type': 'application/json' } });
}

/** Compares digests, so that neither the token's length nor its beginning shows in the time an answer takes. */
function tokenCheck(token: string): (candidate: string) => boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  const expected = digest(token);
  return (candidate) => timingSafeEqual(digest(candidate), expected);
}
