/**
 * `fencepost run`: the worker as a process. SIGTERM or SIGINT stops it, also while it starts; a second signal ends it at once.
 *
 * It writes everything to its log on standard output, in the form of FENCEPOST_LOG, errors of the configuration too. So who
 * collects JSON gets the line that says why nothing runs.
 */
import { once } from 'node:events';
import { type Configuration, logFormatOf, readConfiguration } from '../lib/config.ts';
import { asWorkerError, describe, ExitCode, WorkerError } from '../lib/errors.ts';
import { createLog, type Log } from '../lib/log.ts';
import { startWorker } from '../worker/start.ts';
import { useEmbeddedStack } from './embedded-stack.ts';

/** @returns the exit code, when the worker has stopped */
export async function run(variables: NodeJS.ProcessEnv): Promise<ExitCode> {
  let configuration: Configuration;
  const aboutStack: string[] = [];
  try {
    await useEmbeddedStack(variables, process.cwd(), (line) =>
      aboutStack.push(`${line.charAt(0).toUpperCase()}${line.slice(1)}`),
    );
    configuration = readConfiguration(variables);
  } catch (error) {
    return giveUp(createLog({ logLevel: 'fatal', logFormat: logFormatOf(variables) }), error, aboutStack);
  }
  const log = createLog(configuration);
  for (const line of aboutStack) log.info(line);
  let failure: ExitCode | null = null;

  const stop = new AbortController();
  let signals = 0;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (++signals > 1) process.exit(ExitCode.abandoned);
      stop.abort();
    });
  }
  // A defect. Log it, stop in order, and let the supervisor start a fresh process.
  const onDefect = (error: unknown) => {
    failure = ExitCode.internal;
    log.fatal({ stack: error instanceof Error ? error.stack : undefined }, `Unhandled: ${describe(error)}`);
    stop.abort();
  };
  process.on('unhandledRejection', onDefect);
  process.on('uncaughtException', onDefect);

  try {
    const worker = await startWorker(configuration, log, stop.signal);
    if (!stop.signal.aborted) await once(stop.signal, 'abort');
    const { finished } = await worker.stop();
    return failure ?? (finished ? ExitCode.ok : ExitCode.abandoned);
  } catch (error) {
    if (!(error instanceof WorkerError) || error.code !== 'STOPPED') return giveUp(log, error);
    log.info(error.message);
    return failure ?? ExitCode.ok;
  }
}

function giveUp(log: Log, error: unknown, remarks: readonly string[] = []): ExitCode {
  const reason = asWorkerError(error);
  log.fatal({ code: reason.code }, [reason.message, ...remarks].join('\n'));
  return reason.exitCode;
}
