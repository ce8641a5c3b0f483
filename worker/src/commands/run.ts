/**
 * `fencepost run`: the worker as a process. SIGTERM and SIGINT stop it; a second one ends it at once.
 */
import { readConfiguration } from '../configuration.ts';
import { asWorkerError, describe } from '../errors.ts';
import { ExitCode } from '../exit-codes.ts';
import { createLog } from '../log.ts';
import { startWorker } from '../start-worker.ts';

/** @returns the exit code, when the worker has stopped */
export async function run(variables: NodeJS.ProcessEnv): Promise<ExitCode> {
  const configuration = readConfiguration(variables);
  const log = createLog(configuration);
  let failure: ExitCode | null = null;

  let askToStop: (why: string) => void = () => undefined;
  const asked = new Promise<string>((resolve) => {
    askToStop = resolve;
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      askToStop(signal);
      process.once(signal, () => process.exit(ExitCode.abandoned));
    });
  }
  // Neither should ever happen; if one does, say so, stop in order, and let the supervisor start a fresh process.
  const onDefect = (error: unknown) => {
    failure = ExitCode.internal;
    log.fatal({ stack: error instanceof Error ? error.stack : undefined }, `Unhandled: ${describe(error)}`);
    askToStop('defect');
  };
  process.on('unhandledRejection', onDefect);
  process.on('uncaughtException', onDefect);

  try {
    const worker = await startWorker(configuration, log);
    await asked;
    const { finished } = await worker.stop();
    return failure ?? (finished ? ExitCode.ok : ExitCode.abandoned);
  } catch (error) {
    const reason = asWorkerError(error);
    log.fatal({ code: reason.code }, reason.message);
    return reason.exitCode;
  }
}
