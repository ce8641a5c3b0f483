/** `fencepost retry`: puts dead letters, the targets that Redis refused at every attempt, back into the queue. */
import { ExitCode } from '../lib/errors.ts';
import { withContext } from './command-context.ts';
import { paint, print, printJson, table } from './output.ts';

const SHOWN = 20;

export function retry(variables: NodeJS.ProcessEnv, json: boolean): Promise<ExitCode> {
  return withContext(variables, async ({ queue }) => {
    const letters = await queue().deadLetters(SHOWN);
    const count = await queue().retryDeadLetters();
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
