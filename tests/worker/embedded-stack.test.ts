/** Commands beside an embedded stack: its stack.json here names the servers of the test. */
import { chownSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from '@upstash/redis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { removePath, temporaryFolder } from '../../local/parts/reaper.ts';
import { asleep, killAllWorkers, runCommand, startWorkerProcess } from './support/worker-process.ts';
import { startWorkerStack, TOKEN, type WorkerStack } from './support/worker-stack.ts';

let stack: WorkerStack;
let folder: string;
beforeAll(async () => {
  stack = await startWorkerStack();
  folder = await temporaryFolder('embedded-stack');
  mkdirSync(join(folder, 'supabase/functions'), { recursive: true });
});
beforeEach(() => {
  writeStack(join(folder, '.local'), stack.databaseUrl);
});
afterEach(async (test) => {
  await killAllWorkers(test);
  for (const name of ['.env', '.local', 'other'])
    rmSync(join(folder, name), { recursive: true, force: true });
});
afterAll(async () => {
  await stack.close();
  await removePath(folder);
});

function writeStack(place: string, databaseUrl: string, cachePrefix = ''): void {
  mkdirSync(place, { recursive: true });
  const parts = { databaseUrl, upstashUrl: stack.gateway.url, upstashToken: TOKEN, cachePrefix };
  const text = JSON.stringify(parts);
  writeFileSync(join(place, 'stack.json'), text);
}

const command = (parameters: string[], environment: Record<string, string> = {}, below = '.') =>
  runCommand(environment, parameters, join(folder, below));

it('is used when the environment names no project, which is said on standard error', async () => {
  const { code, text, errors } = await command(['status', '--json']);
  expect(code).toBe(0);
  expect(JSON.parse(text)).toMatchObject({ heartbeat: 'missing', workers: 0, problems: [] });
  expect(errors).toBe(
    'fencepost: using the embedded stack of .local/stack.json, as the environment names no project.\n',
  );
});

it('is found from a folder below, and where FENCEPOST_LOCAL_DIR says', async () => {
  const below = await command(['cost', '--json'], {}, 'supabase/functions');
  expect(below).toMatchObject({ code: 0, errors: expect.stringContaining('../../.local/stack.json') });
  rmSync(join(folder, '.local'), { recursive: true });
  writeStack(join(folder, 'other'), stack.databaseUrl);
  const other = await command(['cost'], { FENCEPOST_LOCAL_DIR: join(folder, 'other') });
  expect(other).toMatchObject({ code: 0, errors: expect.stringContaining('other/stack.json') });
});

it('is not looked for when the environment or .env names anything', async () => {
  const given = await command(['status'], stack.environment());
  expect(given).toMatchObject({ code: 0, errors: '' });
  const incomplete = await command(['status'], { DATABASE_URL: stack.databaseUrl });
  expect(incomplete.code).toBe(78);
  expect(incomplete.errors).toContain('UPSTASH_REDIS_REST_URL is missing');
  writeFileSync(join(folder, '.env'), `UPSTASH_REDIS_REST_TOKEN=${TOKEN}\n`);
  expect(await command(['status'])).toMatchObject({
    code: 78,
    errors: expect.stringContaining('DATABASE_URL is missing'),
  });
});

it('takes a second worker, which stands by', async () => {
  const leader = startWorkerProcess({}, ['run'], folder);
  await asleep(leader);
  const standby = startWorkerProcess({ PORT: '' }, ['run'], folder);
  expect(await (await fetch(`${await standby.url()}/healthz`)).text()).toBeTruthy();
  await standby.line(({ role }) => role === 'following');
  expect(JSON.parse((await command(['status', '--json'])).text)).toMatchObject({ workers: 2 });
});

it('gives its CACHE_PREFIX to every command; another one is refused', async () => {
  writeStack(join(folder, '.local'), stack.databaseUrl, 'app:');
  const leader = startWorkerProcess({}, ['run'], folder);
  await asleep(leader);
  const redis = new Redis({ url: stack.gateway.url, token: TOKEN });
  await redis.mset({ 'app:order:1': 'old', 'order:1': 'of another application' });
  expect(await command(['invalidate', 'order:1'])).toMatchObject({ code: 0 });
  expect(await redis.mget('app:order:1', 'order:1')).toEqual([null, 'of another application']);
  expect(await command(['status'], { CACHE_PREFIX: 'app:' })).toMatchObject({ code: 0 });
  for (const name of ['run', 'status']) {
    const refused = await command([name], { CACHE_PREFIX: 'other:' });
    expect(refused.code).toBe(78);
    expect(refused.text + refused.errors).toMatch(/CACHE_PREFIX is "other:", but .* runs with "app:"/);
  }
});

it('of another user is passed over', async ({ skip }) => {
  skip(process.getuid?.() !== 0, 'only root can give a file away');
  chownSync(join(folder, '.local/stack.json'), 1, 1);
  const passed = await command(['status']);
  expect(passed.code).toBe(78);
  expect(passed.errors).toContain(
    'no embedded stack is up: there is no .local/stack.json here or in a folder above of this user.',
  );
});

it('that is not there: the command says where it looked', async () => {
  const place = { FENCEPOST_LOCAL_DIR: join(folder, 'other') };
  const status = await command(['status'], place);
  expect(status.errors).toContain(`there is no ${join(folder, 'other/stack.json')}`);
  expect(status.errors).toContain('DATABASE_URL is missing');
  writeFileSync(join(folder, '.env'), 'FENCEPOST_LOCAL_DIR=other\n');
  const run = await command(['run']);
  expect(run).toMatchObject({ code: 78, errors: '' });
  expect(run.text).toMatch(
    /DATABASE_URL is missing[\s\S]*no embedded stack is up: there is no other\/stack\.json/,
  );
});

it('leaves a PORT that is set as it is, which must be free', async () => {
  const leader = startWorkerProcess({}, ['run'], folder);
  const { port } = new URL(await leader.url());
  const second = await command(['run'], { PORT: port });
  expect(second.code).toBe(78);
  expect(second.text).toContain(`Port ${port} is taken or not allowed: set PORT to another one, or to 0`);
});

it('that is gone is told from one that runs', async () => {
  writeStack(join(folder, '.local'), 'postgresql://postgres:hunter2@127.0.0.1:1/postgres');
  const gone = await command(['status', '--json']);
  expect(gone).toMatchObject({ code: 78, text: '' });
  expect(gone.errors).toMatch(
    /\.local\/stack\.json names an embedded stack that does not run any more\. Delete/,
  );
  expect(gone.errors).not.toContain('hunter2');
  const run = await command(['run']);
  expect(run).toMatchObject({ code: 78, errors: '' });
  expect(run.text).toContain('names an embedded stack that does not run any more');
  writeFileSync(join(folder, '.local/stack.json'), '{"databaseUrl":');
  expect((await command(['status'])).errors).toMatch(/does not name the parts of an embedded stack/);
});

it('concerns no command that needs no project', async () => {
  writeFileSync(join(folder, '.local/stack.json'), 'nonsense');
  const warm = await command(['warm', 'http://127.0.0.1:9/health-check']);
  expect(warm.errors).not.toContain('embedded stack');
  expect(warm.code).toBe(69);
  expect(await command(['queue-sql'])).toMatchObject({ code: 0, errors: '' });
  expect(await command(['--help'])).toMatchObject({
    code: 0,
    text: expect.stringContaining('embedded stack (npm start)'),
  });
});
