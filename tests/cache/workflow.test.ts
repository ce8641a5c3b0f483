/**
 * The worked example of docs/cache.md: workflow definitions, from the migration (20261101030000_workflows.sql) through
 * trigger, worker and Redis to the reader.
 */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Cache, createCache, keys } from '../../supabase/functions/_shared/cache.ts';
import {
  asleep,
  killAllWorkers,
  leading,
  startWorkerProcess,
  type WorkerProcess,
} from '../worker/support/worker-process.ts';
import { startWorkerStack, type WorkerStack } from '../worker/support/worker-stack.ts';
import { eventually } from './conformance/support.ts';

let stack: WorkerStack;
let worker: WorkerProcess;
let cache: Cache;
let loads = 0;

beforeAll(async () => {
  stack = await startWorkerStack();
  worker = startWorkerProcess(stack.environment());
  await leading(worker);
  await asleep(worker);
  cache = createCache({ url: stack.gateway.url, token: stack.gateway.token, timeout: 5_000 });
  await eventually(async () => (await cache.ping()).workerAlive, 'the worker beats');
});

afterAll(async () => {
  await killAllWorkers();
  await stack?.close();
});

/** The reader, as in docs/cache.md. */
function readDefinition(id: string): Promise<unknown> {
  return cache.getOrSet(keys.workflow(id), async () => {
    loads++;
    const { rows } = await stack.sql.query('select definition from public.workflows where id = $1', [id]);
    return rows[0]?.definition ?? null;
  });
}

/** Resolves when the worker has made the key's answer unreadable. */
async function invalidated(id: string): Promise<void> {
  await eventually(
    async () => !(await cache.lookup(keys.workflow(id))).hit,
    'the write has reached the cache',
  );
}

it('serves a definition from the cache until it is edited', async () => {
  const id = 'onboarding: step 1';
  expect(await readDefinition(id)).toBeNull();
  expect(await readDefinition(id)).toBeNull();
  expect(loads).toBe(1);

  // Absence was cached on purpose; an insert ends it.
  await stack.sql.query('insert into public.workflows (id, definition) values ($1, $2)', [
    id,
    { steps: ['greet'] },
  ]);
  await invalidated(id);
  expect(await readDefinition(id)).toEqual({ steps: ['greet'] });

  await stack.sql.query('update public.workflows set definition = $2 where id = $1', [
    id,
    { steps: ['greet', 'ask'] },
  ]);
  await invalidated(id);
  expect([await readDefinition(id), await readDefinition(id)]).toEqual([
    { steps: ['greet', 'ask'] },
    { steps: ['greet', 'ask'] },
  ]);
  expect(loads).toBe(3);

  // The name is not part of the answer, so renaming leaves it alone. The write after it shows that the worker has seen both.
  const other = 'another';
  await stack.sql.query('insert into public.workflows (id, definition) values ($1, $2)', [other, {}]);
  await readDefinition(other);
  await stack.sql.query('update public.workflows set name = $2 where id = $1', [id, 'Welcome']);
  await stack.sql.query('update public.workflows set definition = $2 where id = $1', [other, { steps: [] }]);
  await invalidated(other);
  expect((await cache.lookup(keys.workflow(id))).hit).toBe(true);
  expect(cache.stats().types.workflow?.loads).toBe(loads);
});
