/** What the metrics count, where a count too many would mislead. */
import { expect, it } from 'vitest';
import { startTcpProxy } from './support/tcp-proxy.ts';
import { asleep, startWorkerProcess, type WorkerProcess } from './support/worker-process.ts';
import { fenceOf, useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

async function metrics(worker: WorkerProcess): Promise<string> {
  return await (await fetch(`${await worker.url()}/metrics`)).text();
}

async function metric(worker: WorkerProcess, name: string): Promise<number> {
  const line = (await metrics(worker)).split('\n').find((text) => text.startsWith(`fencepost_${name} `));
  return Number(line?.split(' ').at(-1) ?? Number.NaN);
}

it('reconnects are lost sessions, not attempts to connect', async () => {
  const proxy = await startTcpProxy(stack.databaseUrl);
  try {
    const worker = startWorkerProcess(stack.environment({ DATABASE_URL: proxy.through(stack.databaseUrl) }));
    await asleep(worker);
    expect(await metric(worker, 'reconnects_total')).toBe(0);
    proxy.set('refuse');
    // Many attempts later …
    await expect.poll(() => metric(worker, 'troubles_total{code="DATABASE_UNREACHABLE"}')).toBeGreaterThan(8);
    const from = worker.lines.length;
    proxy.set('pass');
    await asleep(worker, from);
    // … the listener's and the lock session.
    expect(await metric(worker, 'reconnects_total')).toBe(2);
  } finally {
    await proxy.close();
  }
});

it('only notifications of writers are counted', async () => {
  // Before the worker sleeps: the inserts notify as well.
  const [organisation = ''] = await stack.organisations(1);
  const worker = startWorkerProcess(stack.environment());
  await asleep(worker);
  await stack.sql.query("select pg_notify('cache_invalidation', 'somebody')");
  await stack.write([organisation]);
  await stack.fences.deleted([fenceOf(organisation)]);
  await expect.poll(() => metric(worker, 'doorbell_rings_total')).toBe(1);
});

it('answers while the database does not', async () => {
  const proxy = await startTcpProxy(stack.databaseUrl);
  try {
    const worker = startWorkerProcess(stack.environment({ DATABASE_URL: proxy.through(stack.databaseUrl) }));
    await asleep(worker);
    proxy.set('blackhole');
    // Prometheus gives up a scrape after ten seconds.
    const answer = await fetch(`${await worker.url()}/metrics`, { signal: AbortSignal.timeout(10_000) });
    expect(await answer.text()).toContain('fencepost_ready');
  } finally {
    await proxy.close();
  }
});
