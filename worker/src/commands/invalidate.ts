/**
 * `fencepost invalidate KEY|PATTERN…`: by hand, the way a write does it: a row in the outbox, durable at once and
 * applied by the worker. The command waits until Redis has confirmed, or says that no worker did it in time.
 */
import { Outbox } from '../drain/outbox.ts';
import { WorkerError } from '../errors.ts';
import { ExitCode } from '../exit-codes.ts';
import { withContext } from './command-context.ts';
import { duration, paint, print, printJson } from './output.ts';

const WAIT_MS = 10_000;
const LOOK_MS = 25;

export function invalidate(
  variables: NodeJS.ProcessEnv,
  targets: readonly string[],
  json: boolean,
): Promise<ExitCode> {
  return withContext(variables, async ({ pool }) => {
    const bad = targets.find((target) => target === '' || Buffer.byteLength(target) > 8_192);
    if (bad !== undefined) {
      throw new WorkerError(
        'INVALID_TARGET',
        'A target is a key or a pattern of at most 8192 bytes, such as quota:org-1:*.',
        {
          exitCode: ExitCode.usage,
        },
      );
    }
    const outbox = new Outbox(pool);
    const startedAt = performance.now();
    const ids: string[] = [];
    for (const target of targets) ids.push(await outbox.invalidate(target));
    const applied = await untilGone(ids, () => outbox.remaining(ids));
    const ms = performance.now() - startedAt;
    if (json) printJson({ targets, applied, ms: Math.round(ms) });
    else if (applied) print(`${paint('ok', 'invalidated')}  ${targets.join('  ')}  (${duration(ms)})`);
    else {
      print(
        `${paint('warn', 'waiting')}  ${targets.join('  ')}: kept in the outbox; no worker applied it within ${duration(WAIT_MS)}. Start one with "fencepost run", or see "fencepost doctor".`,
      );
    }
    return applied ? ExitCode.ok : ExitCode.unavailable;
  });
}

async function untilGone(ids: readonly string[], remaining: () => Promise<number>): Promise<boolean> {
  const until = performance.now() + WAIT_MS;
  while (performance.now() < until) {
    if (ids.length === 0 || (await remaining()) === 0) return true;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return false;
}
