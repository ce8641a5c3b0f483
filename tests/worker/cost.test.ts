import { expect, it } from 'vitest';
import { systemRuntime } from '../../supabase/functions/_shared/cache/redis/runtime.ts';
import { types } from '../../supabase/functions/_shared/key-types.ts';
import type { Costs } from '../../worker/src/diagnostics/status/costs.ts';
import { asleep, killAllWorkers, runCommand, startWorkerProcess } from './support/worker-process.ts';
import { fenceOf, useWorkerStack } from './support/worker-stack.ts';

const stack = useWorkerStack();

const cost = (...parameters: string[]) => command('cost', ...parameters);

async function command(...parameters: string[]) {
  const result = await runCommand(stack.environment(), parameters);
  expect(result.errors).toBe('');
  return result;
}

it('adds up what was billed for readers', async () => {
  expect((await cost()).text).toContain('Nothing was written down');

  // A reader that writes down what it counted, because its clock says that two minutes have gone by, both of this hour.
  const start = Date.now();
  let minutes = new Date(start).getUTCMinutes() < 30 ? 0 : -2;
  const background: Promise<unknown>[] = [];
  const cache = stack.reader({
    runtime: {
      ...systemRuntime,
      now: () => start + minutes * 60_000,
      background: (work) => background.push(work),
    },
  });
  const before = stack.gateway.commandCount();
  for (let read = 0; read < 5; read++) await cache.getOrSet('quota:org-1:openai:gpt', async () => 1);
  await Promise.all(background);
  minutes += 2;
  await cache.get('quota:org-1:openai:gpt');
  await Promise.all(background);
  const billed = stack.gateway.commandCount() - before;
  const result: Costs = JSON.parse((await cost('--json')).text);
  expect(result.readers.commands).toBe(billed);
  expect(result).toMatchObject({ reads: 6, loads: 1, worker: { commands: 0 } });
  expect((await cost()).text).toMatch(/^readers +\d+ +- +-$/m);

  // The command knows the types and their targets from what the reader wrote down.
  const { text } = await command('status', '--json');
  const { hitRates } = JSON.parse(text) as { hitRates: { type: string }[] };
  expect(hitRates.map(({ type }) => type)).toEqual(Object.keys(types));
  expect(hitRates).toContainEqual(expect.objectContaining({ type: 'quota', reads: 6, target: 0.8 }));
});

it('adds the worker, which writes down its commands once in 250', async () => {
  const before = stack.gateway.commandCount();
  const worker = startWorkerProcess(stack.environment());
  await asleep(worker);
  const [organisation = ''] = await stack.organisations(1);
  const recorded = async (): Promise<number> => JSON.parse((await cost('--json')).text).worker.commands;
  for (let write = 0; write < 260; write++) {
    await stack.fences.arm([fenceOf(organisation)]);
    await stack.write([organisation]);
    await stack.fences.deleted([fenceOf(organisation)]);
  }
  await killAllWorkers();
  const billed = stack.gateway.commandCount() - before;
  const commands = await recorded();
  expect(commands).toBeGreaterThanOrEqual(250);
  expect(commands).toBeLessThanOrEqual(billed);
});
