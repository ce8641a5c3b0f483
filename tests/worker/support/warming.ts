/**
 * `fencepost warm` as a process beside the real readers. A small server stands in only where the readers cannot show what is looked
 * at: what came over the wire, and failures at will.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { conclude } from '../../../worker/src/warming/results.ts';
import { type FunctionStack, startFunctionStack } from '../../functions/support/stack.ts';
import { killAllWorkers, runCommand } from './worker-process.ts';

type Report = ReturnType<typeof conclude>['counts'] & { readonly notes: readonly string[] };

/** With the real readers, for the whole file. */
export let stack: FunctionStack;
const servers: (() => Promise<unknown>)[] = [];
/** Registers the hooks of one test file. A call, since the files of a process share this module. */
export function useReaders(): void {
  beforeAll(async () => {
    stack = await startFunctionStack();
  });
  afterEach(async (test) => {
    await killAllWorkers(test);
    for (const end of servers.splice(0)) await end();
  });
  afterAll(() => stack?.stop());
}

/** With the owner's connection, and without anything of Upstash. */
export async function warm(parameters: readonly string[], changes: Record<string, string> = {}) {
  const environment = {
    DATABASE_URL: stack.databaseUrl,
    FENCEPOST_WARM_TOKEN: stack.tokens.service ?? '',
    ...changes,
  };
  const { json, ...result } = await runCommand(environment, ['warm', ...parameters]);
  expect(result.text + result.errors).not.toContain(stack.tokens.service);
  return { ...result, json: () => json<Report>() };
}

export const costs = () =>
  `${stack.functions.url}/cost-estimate?provider={provider}&model={model}&input_tokens=0&output_tokens=0`;

/** Requests that came to a server of the test's own, which answers them as told. */
export async function serve(
  answer: (request: IncomingMessage, response: ServerResponse) => void,
): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  await once(server, 'listening');
  servers.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

export const numbers = (count: number) => `select n from generate_series(1, ${count}) as n`;
