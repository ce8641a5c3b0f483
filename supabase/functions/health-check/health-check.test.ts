import { expect, it } from 'vitest';
import type { FunctionDependencies } from '../_shared/function.ts';
import { checkHealth } from './index.ts';

/** Everything is healthy but the age of the oldest invalidation. A stand-in, because a real worker cannot be made late on demand. */
function dependencies(secondsBehind: number): FunctionDependencies {
  const cache = {
    enabled: true,
    connected: true,
    workerAlive: true,
    keyCount: 1,
    latencyMs: 1,
    problem: null,
  };
  return {
    cache: { ping: async () => cache },
    database: { queryPublic: async () => ({ seconds_behind: secondsBehind }) },
  } as unknown as FunctionDependencies;
}

it.each([
  [0, 'healthy'],
  [5, 'healthy'],
  [5.001, 'degraded'],
])('a worker with a heartbeat that is %d s behind is %s', async (secondsBehind, status) => {
  expect(await checkHealth(dependencies(secondsBehind))).toMatchObject({
    status,
    worker: { alive: true, secondsBehind },
  });
});
