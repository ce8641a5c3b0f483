/**
 * Connections that the other side has closed while nobody read: a Node process that reads rarely, or was frozen between two
 * requests, finds that out only when it sends something. A read is then sent once more, a write is not.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { systemRuntime } from '../../supabase/functions/_shared/cache/redis/runtime.ts';
import { createCache } from '../../supabase/functions/_shared/cache.ts';
import { TOKEN, useUpstash } from '../support/upstash.ts';

const upstash = useUpstash();
/** In front of the gateway: what it has closed answers no more, and the client hears of it when it sends the next request. */
let proxy: Server;
let url: string;
/** What was sent over connections that were closed. */
const lost: string[] = [];
/** Resets every connection that sends something. */
let breaking = false;
const open = new Set<Socket>();
const closed = new Set<Socket>();
const closeAll = () => {
  for (const socket of open) closed.add(socket);
};

beforeAll(async () => {
  const target = new URL(upstash.gateway.url);
  proxy = createServer((socket) => {
    const onward = connect(Number(target.port), target.hostname);
    onward.on('data', (bytes) => socket.write(bytes));
    socket.on('data', (bytes) => {
      if (!breaking && !closed.has(socket)) return onward.write(bytes);
      lost.push(String(bytes));
      for (const one of breaking ? [socket] : closed) one.resetAndDestroy();
      closed.clear();
    });
    for (const one of [socket, onward]) one.on('error', () => {});
    socket.on('close', () => {
      open.delete(socket);
      onward.destroy();
    });
    open.add(socket);
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  const address = proxy.address();
  if (address === null || typeof address === 'string') throw new Error('The proxy has no port.');
  url = `http://127.0.0.1:${address.port}`;
});
beforeEach(() => {
  lost.length = 0;
});
afterAll(() => {
  for (const socket of open) socket.destroy();
  proxy.close();
});

function isolate() {
  const clock = { ahead: 0 };
  const lines: string[] = [];
  const cache = createCache({
    url,
    token: TOKEN,
    timeout: 10_000,
    runtime: { ...systemRuntime, monotonic: () => systemRuntime.monotonic() + clock.ahead },
    log: (line) => lines.push(line),
  });
  return { cache, clock, lines };
}

it('hits, though every connection was closed before the next read', async () => {
  const { cache, lines } = isolate();
  await cache.getOrSet('idle:1', () => 'cached');
  for (let read = 1; read <= 5; read++) {
    closeAll();
    expect(await cache.lookup('idle:1')).toEqual({ hit: true, value: 'cached' });
  }
  expect(lost.length).toBeGreaterThan(0);
  closeAll();
  expect(await cache.ping()).toMatchObject({ connected: true, problem: null });
  expect(lines).toEqual([]);
});

it('sends no write twice, and reads go on after one that broke', async () => {
  const { cache } = isolate();
  await cache.getOrSet('idle:2', () => 'cached');
  closeAll();
  expect(await cache.del('idle:2')).toBeNull();
  expect(lost.filter((request) => request.includes('["del","idle:2"'))).toHaveLength(1);
  expect(await cache.lookup('idle:2')).toEqual({ hit: true, value: 'cached' });
});

it('finds Redis again by a probe whose connection was closed', async () => {
  const { cache, clock } = isolate();
  await cache.getOrSet('idle:4', () => 'cached');
  // Every connection breaks: Redis counts as away.
  breaking = true;
  expect(await cache.lookup('idle:4')).toEqual({ hit: false });
  breaking = false;
  expect(await cache.ping()).toMatchObject({ connected: true });
  closeAll();
  clock.ahead += 60_000;
  lost.length = 0;
  // This read starts the probe.
  expect(await cache.lookup('idle:4')).toEqual({ hit: false });
  await expect.poll(() => cache.lookup('idle:4')).toEqual({ hit: true, value: 'cached' });
  expect(lost).toHaveLength(1);
});

it('hits after it was frozen and thawed', async () => {
  const module = new URL('../../supabase/functions/_shared/cache.ts', import.meta.url).href;
  const program = `
    const { createCache } = await import(${JSON.stringify(module)});
    const cache = createCache({ url: ${JSON.stringify(url)}, token: ${JSON.stringify(TOKEN)}, timeout: 10000 });
    // Several connections at once.
    const open = () => Promise.all(Array.from({ length: 4 }, () => cache.ping()));
    await cache.getOrSet('idle:3', () => 'cached');
    await open();
    for await (const _ of process.stdin) {
      console.log(JSON.stringify(await cache.lookup('idle:3')));
      await open();
    }`;
  const child: ChildProcess = spawn(
    process.execPath,
    ['--import', 'tsx', '--input-type=module', '--eval', program],
    { cwd: fileURLToPath(new URL('../..', import.meta.url)), stdio: ['pipe', 'pipe', 'inherit'] },
  );
  if (child.stdout === null) throw new Error('The child has no standard output.');
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ask = async () => {
    child.stdin?.write('read\n');
    return JSON.parse(String((await answers.next()).value)) as unknown;
  };
  try {
    const hit = { hit: true, value: 'cached' };
    expect(await ask()).toEqual(hit);
    for (let time = 0; time < 5; time++) {
      child.kill('SIGSTOP');
      for (const socket of open) socket.destroy();
      child.kill('SIGCONT');
      expect(await ask()).toEqual(hit);
    }
  } finally {
    child.kill('SIGKILL');
  }
});
