/**
 * Child processes as parts. Each has a process group of its own, so that Ctrl-C reaches only the parent, which stops them in
 * order. The reaper knows each from its start. Stopping asks first and sends SIGKILL last.
 */
import { createInterface } from 'node:readline';
import { execa } from 'execa';
import { PartError, once as runOnce } from './part.ts';
import { forgetChild, guardChild, isSealed, ownerMark } from './reaper.ts';

export interface ProcessOptions {
  /** For messages, e.g. `Postgres`. */
  readonly name: string;
  readonly file: string;
  readonly arguments?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  /** False: the child sees only `environment`. Default true. */
  readonly inheritEnvironment?: boolean;
  readonly folder?: string;
  readonly user?: { readonly uid: number; readonly gid: number } | undefined;
  /** Recognises the line of output after which the process can be used. Without it, it counts as ready at once. */
  readonly ready?: (line: string) => boolean;
  /** How long it may take to become ready, in milliseconds. */
  readonly readyWithin?: number;
  /** What asks for an orderly end, mildest first, with the milliseconds to wait for each; SIGKILL comes last. */
  readonly endings?: readonly (readonly [NodeJS.Signals, number])[];
  /** What the reaper asks with when this process is dead; it has a second. Default the first of `endings`. */
  readonly orphanSignal?: NodeJS.Signals;
  /** Every line of output, for progress or a log. */
  readonly onLine?: (line: string) => void;
}

export interface RunningProcess {
  readonly pid: number;
  /** Settles when the process has ended, for whatever reason, with its exit code (none after a signal). Never rejects. */
  readonly ended: Promise<number | undefined>;
  /** The last lines it wrote, for error messages. */
  lastLines(): string;
  stop(): Promise<void>;
}

/** How many lines of output an error message may quote. */
const QUOTED_LINES = 12;

/**
 * Starts a process and waits until it is ready.
 * @throws PartError PORT_TAKEN when its output says so, else PART_START_FAILED with the end of its output
 */
export async function startProcess(options: ProcessOptions): Promise<RunningProcess> {
  if (isSealed())
    throw new PartError('PART_START_FAILED', `${options.name} is not started: this process ends.`);
  const endings = options.endings ?? [['SIGTERM', 3_000]];
  const child = execa(options.file, [...(options.arguments ?? [])], {
    env: { ...options.environment, ...ownerMark },
    extendEnv: options.inheritEnvironment ?? true,
    ...(options.folder === undefined ? {} : { cwd: options.folder }),
    ...(options.user === undefined ? {} : { uid: options.user.uid, gid: options.user.gid }),
    stdin: 'ignore',
    stdout: 'pipe',
    stderr: 'pipe',
    buffer: false,
    reject: false,
    detached: true,
    // The reaper does this: execa's own clean-up does not survive `kill -9`.
    cleanup: false,
  });
  const { pid } = child;
  const lines: string[] = [];
  let ended = false;
  // Output may still arrive after 'exit'; the result settles when the streams are closed too.
  const end = child.then((result) => {
    ended = true;
    if (pid !== undefined) forgetChild(pid);
    if (pid === undefined && result.failed) lines.push(result.shortMessage ?? 'the program could not be run');
    return result.exitCode;
  });
  if (pid === undefined) {
    await end;
    throw startFailure(options.name, lines.join('\n'));
  }
  guardChild(pid, options.orphanSignal ?? endings[0]?.[0] ?? 'SIGTERM');

  const isReady = new Promise<void>((resolve) => {
    if (options.ready === undefined) resolve();
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        if (lines.length > QUOTED_LINES) lines.shift();
        options.onLine?.(line);
        if (options.ready?.(line)) resolve();
      });
    }
  });

  const signal = (name: NodeJS.Signals, target: number) => {
    try {
      process.kill(target, name);
    } catch {
      // It ended between the check and the signal.
    }
  };
  const stop = runOnce(async () => {
    for (const [name, waitMs] of endings) {
      if (ended) return;
      signal(name, pid);
      await Promise.race([end, delay(waitMs)]);
    }
    if (!ended) signal('SIGKILL', -pid);
    await end;
  });

  const limit = delay(options.readyWithin ?? 20_000, 'late' as const);
  const first = await Promise.race([
    isReady.then(() => 'ready' as const),
    end.then(() => 'ended' as const),
    limit,
  ]);
  if (first === 'ready') return { pid, ended: end, lastLines: () => lines.join('\n'), stop };
  if (first === 'late') lines.push('(it was not ready in time)');
  await stop();
  throw startFailure(options.name, lines.join('\n'));
}

/**
 * Runs a program to its end.
 * @returns what it wrote, stdout and stderr as they came
 * @throws PartError PART_START_FAILED with the end of its output when it fails or takes longer than `readyWithin`
 */
export async function runToEnd(options: Omit<ProcessOptions, 'ready'>): Promise<string> {
  const output: string[] = [];
  const program = await startProcess({ ...options, onLine: (line) => output.push(line) });
  const result = await Promise.race([program.ended, delay(options.readyWithin ?? 20_000, 'late' as const)]);
  if (result === 0) return output.join('\n');
  if (result === 'late') output.push('(it did not end in time)');
  await program.stop();
  throw startFailure(options.name, output.slice(-QUOTED_LINES).join('\n'));
}

/** The error for a program that wrote this and did not get ready. */
export function startFailure(name: string, output: string): PartError {
  if (/address already in use|EADDRINUSE|port \d+ is taken/i.test(output)) {
    return new PartError('PORT_TAKEN', `${name} did not start: its port is taken.\n${output}`);
  }
  return new PartError('PART_START_FAILED', `${name} failed.\n${output}`.trimEnd());
}

/** A timer that does not keep the process alive. */
function delay<T = void>(milliseconds: number, value?: T): Promise<T> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds, value as T).unref());
}
