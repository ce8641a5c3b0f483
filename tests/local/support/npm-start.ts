/**
 * `npm start` in a process of its own, and the check that it leaves no process, no listening port, no temporary folder and no
 * file behind, however it ends. Each test removes what a failed expectation left.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { execa } from 'execa';
import { afterEach, expect } from 'vitest';
import type { StackAddresses } from '../../../local/stack.ts';

export const repository = fileURLToPath(new URL('../../..', import.meta.url));
export const run = promisify(execFile);
/** What the design allows for stopping. */
export const STOP_MS = 5_000;

export interface Start {
  /** Everything it wrote so far. */
  output(): string;
  /** Waits for a text in its output. */
  says(text: RegExp): Promise<void>;
  /** npm, the shell between, node and all that node started. */
  processes(): Promise<number[]>;
  readonly npm: number;
  readonly ended: Promise<number | undefined>;
  readonly local: string;
  readonly temporary: string;
}

const ENDED = 'the process has ended';

export const cleanups: (() => Promise<unknown>)[] = [];
/** Registers the hook of one test file. A call, since the files of a process share this module. */
export function cleanUpAfterEach(): void {
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
  });
}

export async function scratchFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'start-test-'));
  // Postgres runs as another user when this is root.
  await chmod(folder, 0o755);
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export async function npmStart(
  environment: Record<string, string> = {},
  local?: string,
  folder = repository,
): Promise<Start> {
  const temporary = await scratchFolder();
  const child = execa('npm', ['start'], {
    cwd: folder,
    detached: true,
    reject: false,
    all: true,
    buffer: false,
    stdin: 'ignore',
    env: {
      // Nothing of the machine's environment: this is a stack of its own.
      DATABASE_URL: '',
      UPSTASH_REDIS_REST_URL: '',
      UPSTASH_REDIS_REST_TOKEN: '',
      LOG_LEVEL: 'info',
      // Long, so that a busy machine does not look like an outage of Redis.
      FENCEPOST_CACHE_TIMEOUT_MS: '10000',
      TMPDIR: temporary,
      // npm's own cache of compiled code, which newer Node versions keep in the temporary folder.
      NODE_DISABLE_COMPILE_CACHE: '1',
      FENCEPOST_LOCAL_DIR: local ?? join(temporary, 'local'),
      ...environment,
    },
  });
  let output = '';
  child.all.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  const npm = child.pid ?? 0;
  let hasEnded = false;
  const ended = child.then(({ exitCode }) => {
    hasEnded = true;
    return exitCode;
  });
  const processes = async () => descendants(npm, (await run('ps', ['-eo', 'pid=,ppid='])).stdout);
  cleanups.push(async () => {
    // Only after a failed expectation is anything of this left.
    for (const pid of await processes()) kill(pid, 'SIGKILL');
  });
  return {
    output: () => output,
    async says(text) {
      // After the process has ended there is nothing to wait for: the output is shown at once.
      await expect
        .poll(() => output + (hasEnded ? ENDED : ''), {
          timeout: 60_000,
          interval: 50,
        })
        .toMatch(new RegExp(`${text.source}|${ENDED}`, text.flags));
      expect(output).toMatch(text);
    },
    processes,
    npm,
    ended,
    local: local ?? join(temporary, 'local'),
    temporary,
  };
}

function descendants(root: number, table: string): number[] {
  const rows = table
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number));
  const found = [root];
  for (const pid of found) for (const [child, parent] of rows) if (parent === pid && child) found.push(child);
  return found;
}

export function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Already gone.
  }
}

/** The processes of a list that still run. A zombie, whose exit was not collected yet, has ended. */
export async function alive(pids: readonly number[]): Promise<number[]> {
  const { stdout } = await execa('ps', ['-o', 'pid=,stat=', '-p', pids.join(',')], { reject: false });
  return [...stdout.matchAll(/^ *(\d+) +[^Z\s]/gm)].map(([, pid]) => Number(pid));
}

export async function readStack(start: Start): Promise<StackAddresses> {
  return JSON.parse(await readFile(join(start.local, 'stack.json'), 'utf8')) as StackAddresses;
}

/** Ends the start and holds it to leaving nothing behind within five seconds. */
export async function expectNothingLeft(start: Start, end: () => void): Promise<void> {
  const pids = await start.processes();
  expect(pids.length).toBeGreaterThan(2);
  const endedAt = performance.now();
  end();
  // When the last look began, not when a busy machine has told what it saw.
  let lookedAt = endedAt;
  const left = async () => {
    lookedAt = performance.now();
    return await alive(pids);
  };
  await expect.poll(left, { timeout: STOP_MS, interval: 50 }).toEqual([]);
  expect(lookedAt - endedAt).toBeLessThan(STOP_MS);
  expect((await readdir(start.temporary)).filter((name) => name !== 'local')).toEqual([]);
  expect(await readdir(start.local)).toEqual([]);
  // By its environment, also what has another parent by now. Its ports may be another stack's already.
  expect(await family(start)).toEqual([]);
}

/** Process id and command of everything that runs with the start's environment, whatever its parent is now. */
async function family(start: Start): Promise<{ pid: number; command: string }[]> {
  const { stdout } = await run('ps', ['axeww', '-o', 'pid=,command='], { maxBuffer: 64 * 1024 * 1024 });
  return stdout
    .split('\n')
    .filter((line) => line.includes(start.temporary))
    .map((line) => /^\s*(\d+) (.*)$/.exec(line))
    .map((match) => ({ pid: Number(match?.[1]), command: match?.[2] ?? '' }));
}

/** Waits until a command of the start's process tree runs. */
export async function runs(start: Start, command: RegExp): Promise<void> {
  const commands = async () => {
    const pids = await start.processes();
    return (await run('ps', ['-o', 'args=', '-p', pids.join(',')])).stdout;
  };
  await expect.poll(commands, { timeout: 30_000, interval: 20 }).toMatch(new RegExp(command.source, 'm'));
}

/** Ends npm, and npm alone, with SIGTERM. */
export async function expectNobodyLeft(start: Start): Promise<void> {
  expect(await family(start)).not.toEqual([]);
  cleanups.push(async () => {
    // Only after a failed expectation is anything of this left.
    for (const { pid } of await family(start)) kill(pid, 'SIGKILL');
  });
  kill(start.npm, 'SIGTERM');
  await expect
    .poll(async () => (await family(start)).map(({ command }) => command.slice(0, 80)), {
      timeout: STOP_MS,
      interval: 50,
    })
    .toEqual([]);
  expect(start.output()).not.toMatch(/Ready in/);
}
