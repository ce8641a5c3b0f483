/** A worker that is stopped before it has started, and twice. */
import { expect, it } from 'vitest';
import { startTcpProxy } from './support/tcp-proxy.ts';
import { startUpstashFaults } from './support/upstash-faults.ts';
import { asleep, startWorkerProcess } from './support/worker-process.ts';
import { fenceOf, useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

it.each(['SIGTERM', 'SIGINT'] as const)(
  '%s ends a start that waits for a database that says nothing',
  async (signal) => {
    const proxy = await startTcpProxy(stack.databaseUrl);
    try {
      proxy.set('blackhole');
      const worker = startWorkerProcess(
        stack.environment({ DATABASE_URL: proxy.through(stack.databaseUrl) }),
      );
      await expect.poll(() => proxy.connections).toBeGreaterThan(0);
      worker.signal(signal);
      // Stopped at once: the wait for the database was abandoned.
      expect(await worker.exited).toBe(0);
      expect(worker.lines).toMatchObject([{ level: 'info', msg: 'Stopped before it had started.' }]);
    } finally {
      await proxy.close();
    }
  },
);

it('SIGTERM cleanly ends a worker that waits for a session: it had no batch in flight', async () => {
  const proxy = await startTcpProxy(stack.databaseUrl);
  try {
    proxy.set('blackhole');
    const worker = startWorkerProcess(stack.environment({ DATABASE_URL: proxy.through(stack.databaseUrl) }));
    await worker.url();
    worker.signal('SIGTERM');
    expect(await worker.exited).toBe(0);
    expect(worker.lines.at(-1)).toMatchObject({ msg: 'Stopped.', finished: true });
  } finally {
    await proxy.close();
  }
});

it.each([
  ['SIGTERM', 'SIGINT'],
  ['SIGINT', 'SIGTERM'],
] as const)('%s and then %s ends it at once, with its batch in flight', async (first, second) => {
  const upstash = await startUpstashFaults(stack.gateway.url);
  try {
    const worker = startWorkerProcess(stack.environment({ UPSTASH_REDIS_REST_URL: upstash.url }));
    await asleep(worker);
    const [organisation = ''] = await stack.organisations(1);
    upstash.set({ kind: 'silent' });
    const sent = upstash.request(new RegExp(fenceOf(organisation)));
    await stack.write([organisation]);
    await sent;
    worker.signal(first);
    await worker.line(({ msg }) => msg.startsWith('Stopping'));
    worker.signal(second);
    expect(await worker.exited).toBe(75);
    expect(worker.lines.at(-1)?.msg).toMatch(/^Stopping/);
  } finally {
    await upstash.close();
  }
});

it('a worker with a long fallback poll beats in time', { timeout: 50_000 }, async () => {
  const upstash = await startUpstashFaults(stack.gateway.url);
  try {
    const worker = startWorkerProcess(
      stack.environment({
        UPSTASH_REDIS_REST_URL: upstash.url,
        FENCEPOST_FALLBACK_POLL_SECONDS: '60',
        FENCEPOST_HEARTBEAT_SECONDS: '1',
      }),
    );
    await asleep(worker);
    for (let beats = 0; beats < 3; beats++) await upstash.request(/getex/i);
  } finally {
    await upstash.close();
  }
});
