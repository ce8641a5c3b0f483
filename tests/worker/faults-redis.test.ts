import { createClient } from 'redis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { startRedis } from '../../local/parts/redis.ts';
import { startUpstash, TOKEN } from '../support/upstash.ts';
import { startUpstashFaults, type UpstashFaults } from './support/upstash-faults.ts';
import {
  asleep,
  describeLines,
  killAllWorkers,
  type LogLine,
  ready,
  startWorkerProcess,
} from './support/worker-process.ts';
import { fenceOf, startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

let stack: WorkerStack;
let upstash: UpstashFaults;
beforeAll(async () => {
  stack = await startWorkerStack();
});
beforeEach(async () => {
  upstash = await startUpstashFaults(stack.gateway.url);
});
afterEach(async (test) => {
  await killAllWorkers(test);
  await upstash.close();
});
afterAll(async () => {
  await stack.close();
});

const worker = (changes: Record<string, string> = {}) =>
  startWorkerProcess(
    stack.environment({
      UPSTASH_REDIS_REST_URL: upstash.url,
      FENCEPOST_UPSTASH_TIMEOUT_SECONDS: '1',
      ...changes,
    }),
  );
const recovered = (line: LogLine) => Array.isArray(line.over);
const left = async () =>
  (await stack.sql.query<{ rows: number }>('select count(*)::int as rows from cache_invalidation.outbox'))
    .rows[0]?.rows;

const epoch = async () =>
  (await stack.sql.query<{ value: string }>('select value from cache_invalidation.epoch')).rows[0]?.value;

const connectTo = (url: string) => createClient({ url });
type RedisClient = ReturnType<typeof connectTo>;

async function redis(url: string, work: (client: RedisClient) => Promise<void>): Promise<void> {
  const client = connectTo(url);
  client.on('error', () => undefined);
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.close();
  }
}

describe('a worker whose Upstash fails', () => {
  it.each([
    ['throttles', 429, '{"error":"ERR too many requests"}', 'UPSTASH_THROTTLED'],
    [
      'has used up its quota',
      400,
      '{"error":"ERR max requests limit exceeded. Limit: 500000, Usage: 500000."}',
      'UPSTASH_QUOTA',
    ],
    ['fails inside', 500, '{"error":"internal error"}', 'UPSTASH_SERVER_ERROR'],
    ['is behind a proxy that fails', 502, '<html>Bad Gateway</html>', 'UPSTASH_SERVER_ERROR'],
    [
      'stands before a Redis that is away',
      503,
      '{"error":"ERR Redis is not reachable"}',
      'UPSTASH_SERVER_ERROR',
    ],
    ['refuses everything in unknown words', 400, '{"error":"ERR not today"}', 'UPSTASH_SERVER_ERROR'],
    ['says 200 and an error', 200, '{"error":"ERR too many requests"}', 'UPSTASH_THROTTLED'],
    ['says 200 and nonsense', 200, '{"result":"OK"}', 'UPSTASH_BAD_ANSWER'],
    ['says 200 and nothing', 200, '{}', 'UPSTASH_BAD_ANSWER'],
    ['takes the token back', 401, '{"error":"Unauthorized"}', 'UPSTASH_UNAUTHORIZED'],
  ])(
    'it %s: rows stay until Redis has confirmed, then all are applied',
    async (_what, status, body, code) => {
      const process = worker();
      await asleep(process);
      // The first beat is over, and the next one is half a minute away.
      await ready(process);
      const organisations = await stack.organisations(25);
      upstash.set({ kind: 'answer', status, body });
      await stack.write(organisations);
      const line = await process.line((entry) => entry.code === code);
      expect(line.level).toBe('error');
      expect(await left()).toBe(25);
      expect((await fetch(`${await process.url()}/readyz`)).status).toBe(503);
      upstash.set({ kind: 'none' });
      await stack.fences.deleted(organisations.map(fenceOf));
      await process.line(recovered);
      expect((await fetch(`${await process.url()}/readyz`)).status).toBe(200);
      // No key and no command reaches the log through an error.
      const errors = process.lines.filter((entry) => ['error', 'warn', 'fatal'].includes(entry.level));
      expect(describeLines(errors)).not.toMatch(new RegExp(`command was|fence:|Bearer|${TOKEN}`));
    },
  );

  it('it exceeds the time limit: the request is abandoned and repeated', async () => {
    const process = worker({ FENCEPOST_UPSTASH_TIMEOUT_SECONDS: '0.3' });
    await asleep(process);
    const organisations = await stack.organisations(5);
    upstash.set({ kind: 'silent', only: /"del"/i });
    await stack.write(organisations);
    await process.line((entry) => entry.code === 'UPSTASH_TIMEOUT');
    upstash.set({ kind: 'none' });
    await stack.fences.deleted(organisations.map(fenceOf));
  });

  it('it executes a DEL and the answer is lost: the DEL is repeated, then the rows are acknowledged', async () => {
    const process = worker();
    await asleep(process);
    const [organisation = ''] = await stack.organisations(1);
    upstash.set({ kind: 'swallow-answer', only: /"del"/i });
    await stack.write([organisation]);
    await stack.fences.deleted([fenceOf(organisation)]);
    await process.line((entry) => entry.code === 'UPSTASH_TIMEOUT');
    expect(await left()).toBe(1);
    const from = process.lines.length;
    upstash.set({ kind: 'none' });
    await process.line(recovered, from);
    expect(await left()).toBe(0);
  });

  it('the gateway breaks connections', async () => {
    const process = worker();
    await asleep(process);
    const organisations = await stack.organisations(10);
    upstash.set({ kind: 'break' });
    await stack.write(organisations);
    await process.line((entry) => entry.code === 'UPSTASH_UNREACHABLE');
    upstash.set({ kind: 'none' });
    await stack.fences.deleted(organisations.map(fenceOf));
  });

  it('kill -9 in the middle of a batch: the next worker applies all of it, whatever Redis has', async () => {
    for (const fault of [
      { kind: 'silent', only: /"del"/i },
      { kind: 'swallow-answer', only: /"del"/i },
    ] as const) {
      const first = worker({ FENCEPOST_UPSTASH_TIMEOUT_SECONDS: '20' });
      await asleep(first);
      const organisations = await stack.organisations(500);
      upstash.set(fault);
      const inHand = upstash.request(/"del"/i);
      await stack.sql.query('update public.quotas set used = used + 1 where org_id = any($1)', [
        organisations,
      ]);
      await inHand;
      first.signal('SIGKILL');
      await first.exited;
      expect(await left()).toBe(500);
      // Readers may have filled again what Redis had deleted.
      await stack.fences.arm(organisations.map(fenceOf));
      upstash.set({ kind: 'none' });
      const second = worker();
      await stack.fences.deleted(organisations.map(fenceOf));
      await asleep(second);
      expect(await left()).toBe(0);
      await second.kill();
    }
  });

  it('SIGTERM while Redis does not answer: the batch is abandoned within 5 s, exit code 75, the rows stay', async () => {
    const process = worker({ FENCEPOST_UPSTASH_TIMEOUT_SECONDS: '30' });
    await asleep(process);
    const organisations = await stack.organisations(3);
    upstash.set({ kind: 'silent', only: /"del"/i });
    const inHand = upstash.request(/"del"/i);
    await stack.write(organisations);
    await inHand;
    const from = Date.now();
    process.signal('SIGTERM');
    expect(await process.exited).toBe(75);
    expect(Date.now() - from).toBeLessThan(5_500);
    expect(await left()).toBe(3);
    upstash.set({ kind: 'none' });
    const next = worker();
    await stack.fences.deleted(organisations.map(fenceOf));
    await asleep(next);
  });

  it('SIGTERM with a batch in flight: it is finished first', async () => {
    const process = worker({ FENCEPOST_UPSTASH_TIMEOUT_SECONDS: '30' });
    await asleep(process);
    const [organisation = ''] = await stack.organisations(1);
    upstash.set({ kind: 'answer', status: 429, body: '{"error":"ERR too many requests"}' });
    await stack.write([organisation]);
    await process.line((entry) => entry.code === 'UPSTASH_THROTTLED');
    const asked = upstash.request(/"del"/i);
    upstash.set({ kind: 'none' });
    await asked;
    process.signal('SIGTERM');
    expect(await process.exited).toBe(0);
    await stack.fences.deleted([fenceOf(organisation)]);
    expect(await left()).toBe(0);
  });
});

describe('a Redis that forgets or goes back in time', () => {
  it('it is restarted and emptied: a new epoch is started, and kept in Postgres', async () => {
    const { redis: first, gateway } = await startUpstash();
    const process = startWorkerProcess(
      stack.environment({
        UPSTASH_REDIS_REST_URL: gateway.url,
        FENCEPOST_HEARTBEAT_SECONDS: '1',
        FENCEPOST_FALLBACK_POLL_SECONDS: '0.2',
      }),
    );
    await process.line((line) => line.reason === 'the heartbeat was missing');
    await asleep(process);
    await first.stop();
    const second = await startRedis({ port: first.port });
    const from = process.lines.length;
    await process.line((line) => line.reason === 'the heartbeat was missing', from);
    await redis(second.url, async (client) => {
      expect(await client.get('fencepost:heartbeat')).toBe(await epoch());
    });
    await process.kill();
    await gateway.stop();
    await second.stop();
  });

  it('the heartbeat holds another value, as after a restored backup: a new epoch', async () => {
    const process = startWorkerProcess(
      stack.environment({ FENCEPOST_HEARTBEAT_SECONDS: '1', FENCEPOST_FALLBACK_POLL_SECONDS: '0.2' }),
    );
    await asleep(process);
    await ready(process);
    const from = process.lines.length;
    await redis(stack.redis.url, async (client) => {
      await client.set('fencepost:heartbeat', 'restored-from-the-past', {
        expiration: { type: 'EX', value: 90 },
      });
      await process.line((line) => line.reason === 'the heartbeat held a foreign epoch', from);
      expect(await client.get('fencepost:heartbeat')).toBe(await epoch());
    });
  });
});

describe('the clock', () => {
  it('steps by a day, forwards and back: latencies and beats stay the same', async () => {
    const process = startWorkerProcess({
      ...stack.environment({ FENCEPOST_HEARTBEAT_SECONDS: '1', FENCEPOST_FALLBACK_POLL_SECONDS: '0.2' }),
      NODE_OPTIONS: `--import ${new URL('./support/stepping-clock.mjs', import.meta.url).href}`,
    });
    await asleep(process);
    await ready(process);
    for (const signal of ['SIGUSR2', 'SIGUSR2', 'SIGUSR2'] as const) {
      process.signal(signal);
      const [organisation = ''] = await stack.organisations(1);
      await stack.write([organisation]);
      await stack.fences.deleted([fenceOf(organisation)]);
      const line = await process.line((entry) => entry.target === `quota:${organisation}:*`);
      expect(line.ms).toBeGreaterThanOrEqual(0);
      expect(line.ms).toBeLessThan(60_000);
    }
    expect((await fetch(`${await process.url()}/readyz`)).status).toBe(200);
  });
});
