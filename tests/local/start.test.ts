/**
 * `npm start` as a person uses it: run by npm, in a process of its own, until it is stopped, killed or fails. After each
 * of these ends no process, no listening port, no temporary folder and no file of it may be left.
 */
import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { execa } from 'execa';
import { afterEach, describe, expect, test } from 'vitest';
import type { StackAddresses } from '../../local/stack.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const run = promisify(execFile);
/** What the design allows for stopping. */
const STOP_MS = 5_000;

interface Start {
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

const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function scratchFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'start-test-'));
  // Postgres runs as another user when this is root.
  await chmod(folder, 0o755);
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function npmStart(
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
      // Whatever the machine's environment says: this is a stack of its own.
      DATABASE_URL: '',
      UPSTASH_REDIS_REST_URL: '',
      UPSTASH_REDIS_REST_TOKEN: '',
      LOG_LEVEL: 'info',
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
      // An output that ended will not say it any more: then it is shown at once.
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

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Already gone.
  }
}

/** The processes of a list that still run; one that nobody has waited for yet has ended all the same. */
async function alive(pids: readonly number[]): Promise<number[]> {
  const states = await Promise.all(
    pids.map(async (pid) => {
      const { stdout } = await execa('ps', ['-o', 'stat=', '-p', String(pid)], { reject: false });
      return stdout.trim() !== '' && !stdout.trim().startsWith('Z');
    }),
  );
  return pids.filter((_, index) => states[index]);
}

async function readStack(start: Start): Promise<StackAddresses> {
  return JSON.parse(await readFile(join(start.local, 'stack.json'), 'utf8')) as StackAddresses;
}

const urlsOf = (stack: StackAddresses) =>
  Object.entries(stack)
    .filter(([name]) => name.endsWith('Url'))
    .map(([, url]) => url as string);

async function listens(url: string): Promise<boolean> {
  const { hostname, port } = new URL(url);
  return await new Promise((resolve) => {
    const server: Server = createServer();
    server.once('error', () => resolve(true));
    server.listen({ host: hostname, port: Number(port) }, () => server.close(() => resolve(false)));
  });
}

/** Ends the start and holds it to leaving nothing behind within five seconds. */
async function expectNothingLeft(start: Start, end: () => void, stack?: StackAddresses): Promise<void> {
  const pids = await start.processes();
  expect(pids.length).toBeGreaterThan(2);
  const endedAt = Date.now();
  end();
  await expect.poll(() => alive(pids), { timeout: STOP_MS, interval: 50 }).toEqual([]);
  expect(Date.now() - endedAt).toBeLessThan(STOP_MS);
  const left = await readdir(start.temporary);
  expect(left.filter((name) => name !== 'local')).toEqual([]);
  expect(await readdir(start.local)).toEqual([]);
  for (const url of stack === undefined ? [] : urlsOf(stack))
    expect([url, await listens(url)]).toEqual([url, false]);
}

/** Everything that was started with the start's environment, whoever its parent is by now: number and command. */
async function family(start: Start): Promise<{ pid: number; command: string }[]> {
  const { stdout } = await run('ps', ['axeww', '-o', 'pid=,command='], { maxBuffer: 64 * 1024 * 1024 });
  return stdout
    .split('\n')
    .filter((line) => line.includes(start.temporary))
    .map((line) => /^\s*(\d+) (.*)$/.exec(line))
    .map((match) => ({ pid: Number(match?.[1]), command: match?.[2] ?? '' }));
}

/** Waits until a command of the start's process tree runs. */
async function runs(start: Start, command: RegExp): Promise<void> {
  const commands = async () => {
    const pids = await start.processes();
    return (await run('ps', ['-o', 'args=', '-p', pids.join(',')])).stdout;
  };
  await expect.poll(commands, { timeout: 30_000, interval: 20 }).toMatch(new RegExp(command.source, 'm'));
}

/** Ends npm, and npm alone, with SIGTERM. */
async function expectNobodyLeft(start: Start): Promise<void> {
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

describe('a local stack', () => {
  test('boots beside taken ports, shows what it promises, and ends with SIGTERM to npm', {
    timeout: 120_000,
  }, async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => {
      // Taken already by somebody else is as good.
      taken.once('error', () => resolve());
      taken.listen({ host: '127.0.0.1', port: 8788 }, resolve);
    });
    cleanups.push(() => new Promise((resolve) => taken.close(resolve)));

    const start = await npmStart();
    await start.says(/Ctrl-C stops everything/);

    const stack = await readStack(start);
    expect(Object.keys(stack).sort()).toEqual(
      [
        ...['databaseUrl', 'redisUrl', 'upstashUrl', 'upstashToken', 'apiUrl', 'functionsUrl', 'workerUrl'],
        ...['anonToken', 'userToken', 'serviceToken'],
      ].sort(),
    );
    expect((await stat(join(start.local, 'stack.json'))).mode & 0o777).toBe(0o600);
    expect(new URL(stack.functionsUrl).port).not.toBe('8788');
    expect(start.output()).toMatch(/Ready in \d+\.\d s\./);

    // The three commands, as printed. The change is made by whichever of its two forms was printed.
    const commands = start
      .output()
      .split('\n')
      .filter((line) => /^(curl|psql|node) /.test(line));
    expect(commands).toHaveLength(3);
    const [readTwice = '', change = '', readAgain = ''] = commands;
    const paste = async (command: string) => (await run('bash', ['-c', command], { cwd: repository })).stdout;
    const caches = (text: string) => [...text.matchAll(/^x-cache: (\w+)/gim)].map((match) => match[1]);
    const limits = (text: string) => [...text.matchAll(/"limit":(\d+)/g)].map((match) => Number(match[1]));

    const before = await paste(readTwice);
    expect(caches(before)).toEqual(['MISS', 'HIT']);
    expect(limits(before)).toEqual([1_000_000, 1_000_000]);
    expect(await paste(change)).toMatch(/UPDATE 1/);
    await start.says(/quotas.*update.*quota:org-acme:\*.*ms/i);
    const after = await paste(readAgain);
    expect(caches(after)).toEqual(['MISS']);
    expect(limits(after)).toEqual([1_500_000]);

    const second = await npmStart({}, start.local);
    expect(await second.ended).toBe(1);
    expect(second.output()).toMatch(/already running in this folder \(process \d+\)/);
    expect(await readStack(start)).toEqual(stack);

    await expectNothingLeft(start, () => kill(start.npm, 'SIGTERM'), stack);
  });

  test('ends with Ctrl-C while it is starting', { timeout: 60_000 }, async () => {
    const start = await npmStart();
    await start.says(/Redis +ready/);
    await expectNothingLeft(start, () => kill(-start.npm, 'SIGINT'));
  });

  test('is cleaned up after kill -9 while it is starting', { timeout: 60_000 }, async () => {
    const start = await npmStart();
    await start.says(/Postgres 17 +ready/);
    await expectNothingLeft(start, () => kill(-start.npm, 'SIGKILL'));
  });

  test('is cleaned up after kill -9 while it is up, also when only npm is killed', {
    timeout: 120_000,
  }, async () => {
    const start = await npmStart();
    await start.says(/Ctrl-C stops everything/);
    await expectNothingLeft(start, () => kill(start.npm, 'SIGKILL'), await readStack(start));

    const again = await npmStart();
    await again.says(/Ctrl-C stops everything/);
    await expectNothingLeft(again, () => kill(-again.npm, 'SIGKILL'), await readStack(again));
  });

  test.each([
    ['npm has spoken, the script may not exist yet', (start: Start) => start.says(/ensure-installed/)],
    [
      'the script exists and has not said a word',
      (start: Start) => runs(start, /^node local.ensure-installed/),
    ],
    ['the script has said its first words', (start: Start) => start.says(/complete local stack/)],
    ['the first part is on its way', (start: Start) => runs(start, /warden-process/)],
  ])(
    'SIGTERM to npm alone, when %s: nothing goes on without it',
    { timeout: 60_000 },
    async (_when, moment) => {
      const start = await npmStart();
      await moment(start);
      await expectNobodyLeft(start);
      const left = await readdir(start.temporary, { recursive: true });
      expect(left.filter((name) => name !== 'local')).toEqual([]);
    },
  );

  test('SIGTERM to npm alone ends the installation of packages', { timeout: 60_000 }, async () => {
    const clone = await scratchFolder();
    const programs = join(clone, 'node_modules/.bin');
    await mkdir(join(clone, 'local'));
    await mkdir(programs, { recursive: true });
    for (const file of [
      'package.json',
      'package-lock.json',
      'local/ensure-installed.mjs',
      'local/lineage.mjs',
    ])
      await copyFile(join(repository, file), join(clone, file));
    // Stands in for a network that does not answer; npm puts this folder in front of PATH for its scripts.
    await writeFile(join(programs, 'npm'), '#!/bin/sh\necho installing for ever\nexec sleep 600\n', {
      mode: 0o755,
    });
    const start = await npmStart({}, undefined, clone);
    await start.says(/installing for ever/);
    await expectNobodyLeft(start);
  });

  test('a part that does not start stops the others, with its own explanation', {
    timeout: 60_000,
  }, async () => {
    const programs = await scratchFolder();
    const broken = '#!/bin/sh\necho "Fatal: out of order" >&2\nexit 1\n';
    await writeFile(join(programs, 'redis-server'), broken, { mode: 0o755 });
    const start = await npmStart({ PATH: `${programs}:${process.env.PATH}` });
    expect(await start.ended).toBe(1);
    expect(start.output()).toMatch(/out of order/);
    expect(start.output()).toMatch(/everything is stopped again/);
    expect(await readdir(start.temporary)).toEqual(['local']);
    expect(await readdir(start.local)).toEqual([]);
  });

  test.each([
    [{ LOG_LEVEL: 'chatty' }, ['LOG_LEVEL must be one of']],
    [{ PORT: '80x' }, ['PORT ']],
    [{ PORT: '70000', LOG_LEVEL: 'chatty' }, ['PORT ', 'LOG_LEVEL ']],
  ])(
    'with %j: one clear error, and nothing is started',
    { timeout: 60_000 },
    async (environment, problems) => {
      const start = await npmStart(environment);
      expect(await start.ended).toBe(78);
      const said = start.output();
      expect(said.match(/^The configuration has /gm)).toHaveLength(1);
      for (const problem of problems) expect(said).toContain(`\n  ${problem}`);
      expect(said).not.toMatch(/starting|^\s+at /im);
      expect(await readdir(start.temporary)).toEqual([]);
    },
  );
});

describe('a project in the environment', () => {
  const project = {
    DATABASE_URL: 'postgresql://postgres:secret-word@127.0.0.1:5432/postgres',
    UPSTASH_REDIS_REST_URL: 'http://127.0.0.1:1',
    UPSTASH_REDIS_REST_TOKEN: 'secret-word',
  };

  test.each([
    [
      'two are missing',
      { ...project, DATABASE_URL: '', UPSTASH_REDIS_REST_TOKEN: ' ' },
      /^UPSTASH_REDIS_REST_URL is set, but DATABASE_URL and UPSTASH_REDIS_REST_TOKEN are missing\. Set all three .*$/m,
    ],
    [
      'the database is no address',
      { ...project, DATABASE_URL: 'nonsense' },
      /DATABASE_URL is not a Postgres connection string/,
    ],
    [
      'the database is the transaction pooler',
      { ...project, DATABASE_URL: project.DATABASE_URL.replace('5432', '6543') },
      /DATABASE_URL points at port 6543/,
    ],
    [
      'Upstash is given as redis://',
      { ...project, UPSTASH_REDIS_REST_URL: 'rediss://x.upstash.io' },
      /UPSTASH_REDIS_REST_URL is a redis:\/\/ address/,
    ],
  ])(
    '%s: one clear error, and no stack is started',
    { timeout: 60_000 },
    async (_what, environment, message) => {
      const start = await npmStart(environment);
      expect(await start.ended).toBe(78);
      expect(start.output()).toMatch(message);
      expect(start.output()).not.toContain('secret-word');
      expect(start.output()).not.toMatch(/^\s+at /m);
      expect(await readdir(start.temporary)).toEqual([]);
    },
  );
});
