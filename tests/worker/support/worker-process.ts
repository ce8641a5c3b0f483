/**
 * A worker as a real process, with its JSON log as events: tests wait for what it says, never for time to pass. The program is
 * built from source once a run (tests/support/build-worker.ts): node starts it several times faster than tsx starts the source.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { expect, inject } from 'vitest';

export interface LogLine {
  readonly level: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

export interface WorkerProcess {
  readonly pid: number;
  readonly child: ChildProcess;
  readonly lines: readonly LogLine[];
  readonly stderr: () => string;
  /** The first line, past or future, after `from`, that satisfies the predicate. Rejects if the process ends before. */
  line(predicate: (line: LogLine) => boolean, from?: number): Promise<LogLine>;
  /** Where its HTTP side is. */
  url(): Promise<string>;
  signal(signal: NodeJS.Signals): void;
  /** The exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
  /** SIGKILL, if it still runs. */
  kill(): Promise<void>;
}

const running = new Set<WorkerProcess>();
/** All of the test, those that have ended too: a test that waits for one may have killed another. */
let started: WorkerProcess[] = [];

export function startWorkerProcess(
  environment: Record<string, string>,
  parameters: readonly string[] = ['run'],
  /** One without a .env of anybody's. */
  folder = tmpdir(),
): WorkerProcess {
  const child = spawn(process.execPath, ['--enable-source-maps', inject('workerProgram'), ...parameters], {
    cwd: folder,
    env: {
      PATH: process.env.PATH ?? '',
      FENCEPOST_LOG: 'json',
      LOG_LEVEL: 'debug',
      PORT: '0',
      ...environment,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: LogLine[] = [];
  const waiting = new Set<() => void>();
  let errors = '';
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString();
  });
  createInterface({ input: child.stdout }).on('line', (text) => {
    lines.push(logLine(text));
    for (const look of waiting) look();
  });
  let ended = false;
  const exited = once(child, 'close').then(([code, signal]: unknown[]) => {
    ended = true;
    running.delete(worker);
    for (const look of waiting) look();
    return typeof code === 'number' ? code : String(signal);
  });
  const worker: WorkerProcess = {
    pid: child.pid ?? 0,
    child,
    lines,
    stderr: () => errors,
    exited,
    line: (predicate, from = 0) =>
      new Promise((resolve, reject) => {
        let next = from;
        const look = () => {
          for (; next < lines.length; next++) {
            const line = lines[next];
            if (line !== undefined && predicate(line)) {
              waiting.delete(look);
              resolve(line);
              return;
            }
          }
          if (ended) {
            waiting.delete(look);
            reject(new Error(`The worker ended first.\n${describeLines(lines)}\n${errors}`));
          }
        };
        waiting.add(look);
        look();
      }),
    url: async () => String((await worker.line((line) => typeof line.url === 'string')).url),
    signal: (signal) => {
      child.kill(signal);
    },
    kill: async () => {
      if (!ended) {
        child.kill('SIGKILL');
        await exited;
      }
    },
  };
  running.add(worker);
  started.push(worker);
  return worker;
}

/** Runs a one-shot command to its end. `json` parses what it printed with --json. */
export async function runCommand(
  environment: Record<string, string>,
  parameters: readonly string[],
  folder?: string,
) {
  const command = startWorkerProcess(environment, parameters, folder);
  const code = await command.exited;
  const text = command.lines.map(({ msg }) => msg).join('\n');
  return { code, text, errors: command.stderr(), json: <T>() => JSON.parse(text) as T };
}

/** A line of the log, or whatever else was printed. */
function logLine(text: string): LogLine {
  try {
    const line: unknown = JSON.parse(text);
    if (typeof line === 'object' && line !== null && 'msg' in line && 'level' in line) return line as LogLine;
  } catch {
    // Text for people.
  }
  return { level: 'text', msg: text };
}

/**
 * For afterEach, with its test: nothing outlives it, and one that failed, by an assertion or by its time limit, shows what its workers
 * said. Without a test: only kills them.
 */
export async function killAllWorkers(test?: {
  readonly task?: { readonly result?: { readonly state?: string } };
}): Promise<void> {
  await Promise.all([...running].map((worker) => worker.kill()));
  if (test === undefined) return;
  if (test.task?.result?.state === 'fail') {
    for (const worker of started)
      console.error(`worker ${worker.pid}\n${describeLines(worker.lines)}\n${worker.stderr()}`);
  }
  started = [];
}

/** The worker sleeps: from now on every commit notifies it. */
export function asleep(worker: WorkerProcess, from = 0): Promise<LogLine> {
  return worker.line((line) => line.state === 'asleep', from);
}

/** Invalidations flow, and the heartbeat stands: readers trust what they find. The first beat may come after the first sleep. */
export async function ready(worker: WorkerProcess): Promise<void> {
  const readyz = `${await worker.url()}/readyz`;
  await expect.poll(async () => (await fetch(readyz)).status).toBe(200);
}

export function leading(worker: WorkerProcess, from = 0): Promise<LogLine> {
  return worker.line((line) => line.role === 'leading', from);
}

export function describeLines(lines: readonly LogLine[]): string {
  return lines
    .slice(-40)
    .map((line) => JSON.stringify(line))
    .join('\n');
}
