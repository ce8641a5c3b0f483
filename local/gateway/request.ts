/**
 * What a REST request asks for. Three forms, as Upstash documents them (docs/redis/features/restapi):
 *
 *   a JSON array in the body          POST /            ["SET","foo","bar","EX",100]
 *   the path, body last, then query   POST /set/foo?EX=100   with the value as the body
 *   an array of commands              POST /pipeline, POST /multi-exec
 */
import type { IncomingMessage } from 'node:http';
import type { RedisCommand } from './commands.ts';

/** Why a request is answered with an error, in Upstash's words, before anything reaches Redis. */
export class RequestRefused extends Error {
  readonly code = 'REQUEST_REFUSED';
  readonly status: 400 | 401 | 405 | 413;

  constructor(status: 400 | 401 | 405 | 413, message: string) {
    super(message);
    this.name = 'RequestRefused';
    this.status = status;
  }
}

/** Above this multiple of the limit the rest of a body is not even read: the connection is cut. */
const DRAINED_MULTIPLE = 8;

/**
 * The whole body. A body over the limit is read to its end and dropped, so that the client, which is still sending, sees
 * the answer and not a broken connection.
 * @throws RequestRefused 413
 */
export function readBody(incoming: IncomingMessage, limit: number): Promise<Buffer> {
  // Events, not `for await`: the iterator's extra turns of the event loop show in the latency of every command.
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    incoming.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= limit) chunks.push(chunk);
      else if (size > limit * DRAINED_MULTIPLE)
        incoming.destroy(new RequestRefused(413, tooLarge(limit, size)));
    });
    incoming.on('error', reject);
    incoming.on('end', () => {
      if (size > limit) reject(new RequestRefused(413, tooLarge(limit, size)));
      else resolve(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks));
    });
  });
}

/** Upstash's words for a request or an answer that is too large; sizes in bytes. */
export function tooLarge(limit: number, size: number): string {
  return `ERR max request size exceeded. Limit: ${limit} bytes, Actual: ${size} bytes. See https://upstash.com/docs/redis/troubleshooting/max_request_size_exceeded for details`;
}

/** POST / : one command in the body. */
export function parseCommand(body: Buffer): RedisCommand {
  const command = toCommand(parseJson(body, 'ERR failed to parse command'), 'ERR failed to parse command');
  if (command.length === 0) throw new RequestRefused(400, 'ERR empty command');
  return command;
}

/**
 * /pipeline and /multi-exec: commands in the body. A command may be empty here: in a pipeline that is the failure of
 * one command, not of all.
 */
export function parseCommands(body: Buffer): RedisCommand[] {
  const parsed = parseJson(body, 'ERR failed to parse pipeline request');
  if (!Array.isArray(parsed)) throw new RequestRefused(400, 'ERR failed to parse pipeline request');
  if (parsed.length === 0) throw new RequestRefused(400, 'ERR empty pipeline request');
  return parsed.map((command) => toCommand(command, 'ERR failed to parse pipeline command'));
}

/**
 * Any other path: its segments, then the body, then the query's names and values in their order.
 * @param target the request's path and query as they came over the wire, so that %2F stays inside its segment
 */
export function parsePath(target: string, body: Buffer): RedisCommand {
  const [path = '', query = ''] = splitOnce(target, '?');
  const command: (string | Buffer)[] = path
    .replace(/^\//, '')
    .replace(/\/$/, '')
    .split('/')
    .map((segment) => decode(segment));
  if (body.length > 0) command.push(body);
  for (const pair of query.split('&')) {
    if (pair === '' || pair.startsWith('_token=')) continue;
    command.push(...splitOnce(pair, '=').map((part) => decode(part.replaceAll('+', ' '))));
  }
  return command;
}

/** The token of a request: the bearer header or the query's `_token`. */
export function tokenOf(incoming: IncomingMessage): string {
  const header = incoming.headers.authorization ?? '';
  if (/^bearer /i.test(header)) return header.slice(7).trim();
  const match = /[?&]_token=([^&]*)/.exec(incoming.url ?? '');
  return match?.[1] === undefined ? '' : decode(match[1]);
}

function toCommand(parsed: unknown, message: string): RedisCommand {
  if (!Array.isArray(parsed)) throw new RequestRefused(400, message);
  return parsed.map((argument: unknown) => {
    if (typeof argument === 'string') return argument;
    if (typeof argument === 'number' || typeof argument === 'boolean') return String(argument);
    throw new RequestRefused(400, message);
  });
}

function parseJson(body: Buffer, message: string): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    throw new RequestRefused(400, message);
  }
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new RequestRefused(400, 'ERR failed to parse command');
  }
}

function splitOnce(text: string, separator: string): string[] {
  const at = text.indexOf(separator);
  return at === -1 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
