/** A server that refuses GET beside NX (Redis before 7): one load is not stored, and then all works with one command more a fence. */
import type { IncomingMessage, RequestListener } from 'node:http';
import { text } from 'node:stream/consumers';
import { expect, it, onTestFinished } from 'vitest';
import { startHttp } from '../../local/parts/http.ts';
import { createCache } from '../../supabase/functions/_shared/cache.ts';
import { TOKEN, useUpstash } from '../support/upstash.ts';

const KEY = 'quota:org-1:openai:gpt-5';

const upstash = useUpstash();

/** In front of the gateway, until the test has ended. */
async function front(name: string, listener: RequestListener) {
  const { url, stop } = await startHttp({ name, listener });
  onTestFinished(stop);
  return url;
}

async function pass(incoming: IncomingMessage, body: string): Promise<string> {
  const headers = { authorization: `Bearer ${TOKEN}` };
  const response = await fetch(upstash.gateway.url + incoming.url, { method: 'POST', headers, body });
  return await response.text();
}

/** Refuses what Redis 6 refuses, with its words. */
async function startFormerRedis() {
  return await front('former', async (incoming, outgoing) => {
    const body = await text(incoming);
    const commands = JSON.parse(body) as unknown;
    const refuses = (command: unknown): boolean =>
      Array.isArray(command) && command.includes('nx') && command.includes('get');
    const all = incoming.url === '/pipeline' ? (commands as unknown[]) : [];
    const passed = all.some(refuses) ? all.filter((command) => !refuses(command)) : null;
    const answer = await pass(incoming, passed === null ? body : JSON.stringify(passed));
    if (passed === null) return outgoing.end(answer);
    const answers = (JSON.parse(answer) as unknown[]).values();
    const merged = all.map((command) =>
      refuses(command) ? { error: 'ERR syntax error' } : answers.next().value,
    );
    return outgoing.end(JSON.stringify(merged));
  });
}

it('is served with SET NX and GET apart', async () => {
  const url = await startFormerRedis();
  const { gateway } = upstash;
  const lines: string[] = [];
  const open = () => createCache({ url, token: TOKEN, timeout: 5_000, log: (line) => lines.push(line) });
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
});

it('stores nothing under a fence that the network made twice', async () => {
  // The pipeline arrives twice, and the reply is that to the second copy.
  const url = await front('doubled', async (incoming, outgoing) => {
    const body = await text(incoming);
    if (incoming.url === '/pipeline') await pass(incoming, body);
    outgoing.end(await pass(incoming, body));
  });
  const cache = createCache({ url, token: TOKEN, timeout: 5_000, log: () => {} });
  const key = 'quota:twice:openai:gpt-5';
  expect(await cache.getOrSet(key, () => 1)).toBe(1);
  expect(await cache.get(key)).toBeNull();
});
