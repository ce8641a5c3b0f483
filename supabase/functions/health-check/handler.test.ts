import { expect, it } from 'vitest';
import type { FunctionDependencies } from '../_shared/function.ts';
import { examine } from './handler.ts';

/** All parts there, the worker beating, and its oldest invalidation so many seconds old: no real worker stalls on demand. */
function dependencies(secondsBehind: number): FunctionDependencies {
  const cache = { enabled: true, connected: true, workerAlive: true, keyCount: 1, latencyMs: 1 };
  return {
    cache: { ping: async () => cache },
    database: { askPublic: async () => ({ seconds_behind: secondsBehind }) },
  } as unknown as FunctionDependencies;
}

it.each([
  [0, 'healthy'],
  [5, 'healthy'],
  [5.001, 'degraded'],
])('calls a worker that beats but is %d s behind %s', async (secondsBehind, status) => {
  expect(await examine(dependencies(secondsBehind))).toMatchObject({
    status,
    worker: { alive: true, secondsBehind },
  });
});
