/** A server that refuses GET beside NX (Redis before 7): one load is not stored, and then all works with one command more a fence. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type GatewayPart, startGateway } from '../../local/gateway/gateway.ts';
import { type RedisPart, startRedis } from '../../local/parts/redis.ts';
import { createCache } from '../../supabase/functions/_shared/cache.ts';

const KEY = 'quota:org-1:openai:gpt-5';
const TOKEN = 'nx-get-token';

let redis: RedisPart;
let gateway: GatewayPart;

beforeAll(async () => {
  redis = await startRedis();
  gateway = await startGateway({ redisUrl: redis.url, token: TOKEN });
});

afterAll(async () => {
  await gateway.stop();
  await redis.stop();
});

/** In front of the gateway: refuses what Redis 6 refuses, with its words. */
async function startFormerRedis() {
  const server = createServer(async (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString();
    const commands = JSON.parse(body) as unknown;
    const refuses = (command: unknown): boolean =>
      Array.isArray(command) && command.includes('nx') && command.includes('get');
    const all = incoming.url === '/pipeline' ? (commands as unknown[]) : [];
    const passed = all.some(refuses) ? all.filter((command) => !refuses(command)) : null;
    const response = await fetch(gateway.url + incoming.url, {
      method: 'POST',
      headers: { authorization: `Bearer ${TOKEN}` },
      body: passed === null ? body : JSON.stringify(passed),
    });
    const text = await response.text();
    if (passed === null) return outgoing.end(text);
    const answers = (JSON.parse(text) as unknown[]).values();
    const merged = all.map((command) =>
      refuses(command) ? { error: 'ERR syntax error' } : answers.next().value,
    );
    return outgoing.end(JSON.stringify(merged));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url, stop };
}

it('is served with SET NX and GET apart', async () => {
  const former = await startFormerRedis();
  const lines: string[] = [];
  const open = () =>
    createCache({ url: former.url, token: TOKEN, timeout: 5_000, log: (line) => lines.push(line) });
  const [cache, other] = [open(), open()];
  expect(await cache.getOrSet(KEY, () => 1)).toBe(1);
  expect(await cache.get(KEY)).toBeNull();
  expect(lines).toEqual([expect.stringMatching(/refuses SET with NX and GET/)]);
  const before = gateway.commandsByName();
  expect(await cache.getOrSet(KEY, () => 2)).toBe(2);
  const after = gateway.commandsByName();
  expect([await cache.get(KEY), await other.get(KEY)]).toEqual([2, 2]);
  // Its first get has made the fences, so the load finds them.
  expect((after.SET ?? 0) - (before.SET ?? 0)).toBe(2);
  await cache.del(KEY);
  expect(await cache.getOrSet(KEY, () => 3)).toBe(3);
  expect((gateway.commandsByName().GET ?? 0) - (after.GET ?? 0)).toBe(1);
  expect(await other.getOrSet(KEY, () => 4)).toBe(3);
  // Many isolates at once: the reply to GET is the fence, so they agree on it.
  await cache.del(KEY);
  let loads = 0;
  const herd = [cache, other, cache, other].map((isolate) => isolate.getOrSet(KEY, () => ++loads));
  expect(new Set(await Promise.all(herd)).size).toBeLessThanOrEqual(2);
  expect(await other.get(KEY)).toBe(await cache.get(KEY));
  former.stop();
});

it('stores nothing under a fence that the network made twice', async () => {
  // The pipeline arrives twice, and the reply is that to the second copy.
  const doubled = createServer(async (incoming, outgoing) => {
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const send = () =>
      fetch(gateway.url + incoming.url, {
        method: 'POST',
        headers: { authorization: `Bearer ${TOKEN}` },
        body: Buffer.concat(chunks),
      });
    if (incoming.url === '/pipeline') await send();
    outgoing.end(await (await send()).text());
  });
  await new Promise<void>((resolve) => doubled.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(doubled.address() as AddressInfo).port}`;
  const cache = createCache({ url, token: TOKEN, timeout: 5_000, log: () => {} });
  const key = 'quota:twice:openai:gpt-5';
  expect(await cache.getOrSet(key, () => 1)).toBe(1);
  expect(await cache.get(key)).toBeNull();
  doubled.closeAllConnections();
  doubled.close();
});
