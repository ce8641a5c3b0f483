/** `npm start` as a person uses it: run by npm until it is stopped, killed or fails. */
import { copyFile, cp, mkdir, readdir, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { describe, expect, test } from 'vitest';

import {
  cleanUpAfterEach,
  cleanups,
  expectNobodyLeft,
  expectNothingLeft,
  kill,
  npmStart,
  readStack,
  repository,
  run,
  runs,
  STOP_MS,
  type Start,
  scratchFolder,
} from './support/npm-start.ts';

cleanUpAfterEach();

describe('a local stack', () => {
  test('boots beside taken ports, shows what it promises, and ends with SIGTERM to npm', async () => {
    const taken = createServer();
    await new Promise<void>((resolve) => {
      // Another process may have the port already, which serves as well.
      taken.once('error', () => resolve());
      taken.listen({ host: '127.0.0.1', port: 8788 }, resolve);
    });
    cleanups.push(() => new Promise((resolve) => taken.close(resolve)));

    const start = await npmStart({ CACHE_PREFIX: 'app:' });
    await start.says(/Ctrl-C stops everything/);

    const stack = await readStack(start);
    expect(Object.keys(stack).sort()).toEqual(
      [
        ...['databaseUrl', 'redisUrl', 'upstashUrl', 'upstashToken', 'apiUrl', 'functionsUrl', 'workerUrl'],
        ...['anonToken', 'userToken', 'serviceToken', 'cachePrefix'],
      ].sort(),
    );
    expect(stack.cachePrefix).toBe('app:');
    expect((await stat(join(start.local, 'stack.json'))).mode & 0o777).toBe(0o600);
    expect(new URL(stack.functionsUrl).port).not.toBe('8788');
    expect(start.output()).toMatch(/Ready in \d+\.\d s\./);
    const [, told = ''] = /All of this is in (\S+) while/.exec(start.output()) ?? [];
    expect(resolve(repository, told)).toBe(join(start.local, 'stack.json'));

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

    await expectNothingLeft(start, () => kill(start.npm, 'SIGTERM'));
  });

  test('ends with Ctrl-C while it is starting', async () => {
    const start = await npmStart();
    await start.says(/Redis +ready/);
    await expectNothingLeft(start, () => kill(-start.npm, 'SIGINT'));
  });

  test('is cleaned up after kill -9 while it is starting', async () => {
    const start = await npmStart();
    await start.says(/Postgres 17 +ready/);
    await expectNothingLeft(start, () => kill(-start.npm, 'SIGKILL'));
  });

  test('is cleaned up after kill -9 while it is up, also when only npm is killed', async () => {
    const start = await npmStart();
    await start.says(/Ctrl-C stops everything/);
    await expectNothingLeft(start, () => kill(start.npm, 'SIGKILL'));

    const again = await npmStart();
    await again.says(/Ctrl-C stops everything/);
    await expectNothingLeft(again, () => kill(-again.npm, 'SIGKILL'));
  });

  test.each([
    ['npm has spoken, the script may not exist yet', (start: Start) => start.says(/ensure-installed/)],
    [
      'the script exists and has not said a word',
      (start: Start) => runs(start, /^node local.ensure-installed/),
    ],
    ['the script has said its first words', (start: Start) => start.says(/complete local stack/)],
    ['the first part is on its way', (start: Start) => runs(start, /reaper-process/)],
  ])('SIGTERM to npm alone, when %s: nothing goes on without it', async (_when, moment) => {
    const start = await npmStart();
    await moment(start);
    await expectNobodyLeft(start);
    // The reaper removes the folders after the last process has ended, and is none of these itself.
    const left = async () =>
      (await readdir(start.temporary, { recursive: true })).filter((name) => name !== 'local');
    await expect.poll(left, { timeout: STOP_MS, interval: 50 }).toEqual([]);
  });

  test('reads FENCEPOST_LOCAL_DIR from .env, as the commands do', async () => {
    const clone = await scratchFolder();
    await cp(join(repository, 'local'), join(clone, 'local'), { recursive: true });
    await copyFile(join(repository, 'package.json'), join(clone, 'package.json'));
    await symlink(join(repository, 'node_modules'), join(clone, 'node_modules'));
    // No folder can be made in a file: the start ends with the place that it wanted.
    await writeFile(join(clone, '.env'), 'FENCEPOST_LOCAL_DIR=package.json/inside\n');
    const { stderr, exitCode } = await execa('node', ['--import', 'tsx', 'local/start.ts'], {
      cwd: clone,
      extendEnv: false,
      env: { PATH: process.env.PATH ?? '' },
      reject: false,
    });
    expect(stderr).toContain('package.json/inside');
    expect(exitCode).toBe(1);
  });

  test('SIGTERM to npm alone ends the installation of packages', async () => {
    const clone = await scratchFolder();
    const programs = join(clone, 'node_modules/.bin');
    await mkdir(join(clone, 'local'));
    await mkdir(programs, { recursive: true });
    for (const file of [
      'package.json',
      'package-lock.json',
      'local/ensure-installed.mjs',
      'local/parent-watch.mjs',
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

  test('a part that does not start stops the others, with its own explanation', async () => {
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
  ])('with %j: one clear error, and nothing is started', async (environment, problems) => {
    const start = await npmStart(environment);
    expect(await start.ended).toBe(78);
    const said = start.output();
    expect(said.match(/^The configuration has /gm)).toHaveLength(1);
    for (const problem of problems) expect(said).toContain(`\n  ${problem}`);
    expect(said).not.toMatch(/starting|^\s+at /im);
    expect(await readdir(start.temporary)).toEqual([]);
  });
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
  ])('%s: one clear error, and no stack is started', async (_what, environment, message) => {
    const start = await npmStart(environment);
    expect(await start.ended).toBe(78);
    expect(start.output()).toMatch(message);
    expect(start.output()).not.toContain('secret-word');
    expect(start.output()).not.toMatch(/^\s+at /m);
    expect(await readdir(start.temporary)).toEqual([]);
  });
});
