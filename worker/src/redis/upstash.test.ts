import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type CacheServer, connectUpstash } from './upstash.ts';

const asked: unknown[] = [];
let reply = { status: 200, body: '' };
const observed: string[] = [];
let server: Server;
let cache: CacheServer;

beforeAll(async () => {
  server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    asked.push(JSON.parse(text));
    response.writeHead(reply.status).end(reply.body);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const settings = {
    upstashUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    upstashToken: 'token',
    cachePrefix: 'app:',
    upstashTimeoutMs: 5_000,
  };
  cache = connectUpstash(settings, (command) => observed.push(command));
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});

it('puts CACHE_PREFIX in front of every key, and tells of every command', async () => {
  reply = { status: 200, body: '{"result":1}' };
  expect(await cache.del(['session:42:state'])).toBe(1);
  expect([asked, observed]).toEqual([[['del', 'app:session:42:state']], ['DEL']]);
});

it('rejects with a classified failure that does not repeat the command', async () => {
  reply = { status: 400, body: '{"error":"ERR syntax error"}' };
  const failure: unknown = await cache.del(['secret-key']).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: 'UPSTASH_SERVER_ERROR', course: 'bisect' });
  expect(String(failure)).not.toContain('secret-key');
});
