/** Two stacks of one clone at once: neither mistakes the other's parts for its own, and one folder holds one stack. */
import { readdir } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import pg from 'pg';
import { expect, test } from 'vitest';
import { startWorker } from '../../local/parts/worker.ts';

import {
  cleanUpAfterEach,
  cleanups,
  expectNothingLeft,
  kill,
  npmStart,
  readStack,
  scratchFolder,
} from './support/npm-start.ts';

cleanUpAfterEach();

/** Stands in for another stack's worker: it says that it is ready. */
async function readyServer(): Promise<number> {
  const server = createServer((_request, response) => response.end('{"ready":true}'));
  await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0 }, resolve));
  cleanups.push(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as AddressInfo).port;
}

test('another process that answers on the port is not taken for the worker', async () => {
  const starting = startWorker({
    databaseUrl: 'postgresql://127.0.0.1:1/nowhere',
    upstashUrl: 'http://127.0.0.1:1',
    upstashToken: 'none',
    // So the worker does not say why it ends: the port alone must tell.
    environment: { LOG_LEVEL: 'silent' },
    port: await readyServer(),
  });
  await expect(starting).rejects.toMatchObject({ code: 'PORT_TAKEN' });
});

test('a PORT that is set and taken is an error, and everything is stopped again', async () => {
  const port = await readyServer();
  const start = await npmStart({ PORT: String(port) });
  expect(await start.ended).toBe(1);
  expect(start.output()).toMatch(new RegExp(`port ${port} is taken`, 'i'));
  expect(start.output()).toMatch(/everything is stopped again/);
});

test('two that start at the same moment both become ready, and each applies its own writes', async () => {
  const starts = await Promise.all([npmStart(), npmStart()]);
  await Promise.all(starts.map((start) => start.says(/Ctrl-C stops everything/)));
  const stacks = await Promise.all(starts.map(readStack));
  expect(new Set(stacks.map(({ workerUrl }) => workerUrl)).size).toBe(2);
  for (const [index, stack] of stacks.entries()) {
    const client = new pg.Client({ connectionString: stack.databaseUrl });
    await client.connect();
    await client.query("update public.quotas set used = used + 1 where org_id = 'org-acme'");
    await client.end();
    await starts[index]?.says(/quotas.*update.*quota:org-acme:\*.*ms/i);
  }
  for (const start of starts) kill(start.npm, 'SIGTERM');
  for (const start of starts)
    await expect.poll(() => readdir(start.temporary, { recursive: true })).toEqual(['local']);
});

test('of two that start at the same moment in the same folder one starts', async () => {
  const local = join(await scratchFolder(), 'local');
  const starts = await Promise.all([npmStart({}, local), npmStart({}, local)]);
  // One line each: the first one's first part, and the second one's refusal.
  await Promise.all(starts.map((start) => start.says(/Redis +ready|already running/)));
  const outputs = starts.map((start) => start.output());
  expect(outputs.filter((output) => /already running in this folder/.test(output))).toHaveLength(1);
  const winner = starts[outputs.findIndex((output) => /Redis +ready/.test(output))];
  if (winner === undefined) throw new Error('Neither started.');
  await expectNothingLeft(winner, () => kill(winner.npm, 'SIGTERM'));
});
