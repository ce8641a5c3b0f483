/** `fencepost retry`: has dead letters, the targets that Redis refused at every attempt, worked on again. */
import { Pending } from '../db/pending.ts';
import { ExitCode } from '../lib/errors.ts';
import { withContext } from './command-context.ts';
import { paint, print, printJson, table } from './output.ts';

const SHOWN = 20;

export function retry(variables: NodeJS.ProcessEnv, json: boolean): Promise<ExitCode> {
  return withContext(variables, async ({ pool, queue }) => {
    const pending = new Pending(pool);
    const targets = (await pending.failed(SHOWN)).map(({ id, target, why, code, failedAt }) => {
      return { id, name: why, subject: target, reason: code, failedAt: failedAt.toISOString() };
    });
    const retried = await pending.retryFailed();
    const letters = [...targets, ...(await queue().deadLetters(SHOWN))].slice(0, SHOWN);
    const count = retried + (await queue().retryDeadLetters());
    await queue().look();
    if (json) printJson({ retried: count, first: letters });
    else if (count === 0) print('There are no dead letters.');
    else {
      print(
        table(
          letters.map((letter) => [
            letter.failedAt,
            letter.name,
            letter.subject,
            paint('dim', letter.reason),
          ]),
        ),
      );
      print(
        `${count} ${count === 1 ? 'job is' : 'jobs are'} back in the queue; a running worker takes them up.`,
      );
    }
    return ExitCode.ok;
  });
}
