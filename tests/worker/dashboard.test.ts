/** The dashboard as a real browser shows it. */
import { type Browser, chromium, type Page } from 'playwright-core';
import { createClient } from 'redis';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { ensureCommand } from '../../local/system-packages.ts';
import { statisticsKey } from '../../supabase/functions/_shared/cache/protocol/statistics.ts';
import { AUDIT_KEY } from '../../worker/src/diagnostics/audit/audit.ts';
import { startTcpProxy } from './support/tcp-proxy.ts';
import { startUpstashFaults } from './support/upstash-faults.ts';
import {
  asleep,
  killAllWorkers,
  ready,
  startWorkerProcess,
  type WorkerProcess,
} from './support/worker-process.ts';
import { fenceOf, startWorkerStack, type WorkerStack } from './support/worker-stack.ts';

let stack: WorkerStack;
let browser: Browser;
/** Errors of the browser: of scripts, and of what the page's policy forbids. */
let complaints: string[] = [];

beforeAll(async () => {
  const executablePath = await ensureCommand(['chromium', 'chromium-browser', 'google-chrome'], 'chromium');
  // Chromium's own sandbox does not start as root, nor in many containers; the page is ours.
  browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  stack = await startWorkerStack();
}, 300_000);
afterEach(async (test) => {
  for (const context of browser.contexts()) await context.close();
  await killAllWorkers(test);
});
afterAll(async () => {
  await browser.close();
  await stack.close();
});

/** It waits a second for the database and for Redis; without them it comes as it is, and refreshes itself every 5 s. */
async function open(worker: WorkerProcess): Promise<Page> {
  complaints = [];
  const page = await browser.newPage();
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  await page.goto(await worker.url());
  return page;
}

const heading = (page: Page) => page.locator('h1').textContent();
const notices = async (page: Page) => (await page.locator('.notice').allTextContents()).join('\n');
const tile = (page: Page, name: string) => page.locator('article', { hasText: name }).textContent();

async function commands(worker: WorkerProcess): Promise<number> {
  const text = await (await fetch(`${await worker.url()}/metrics`)).text();
  const lines = text.split('\n').filter((line) => line.startsWith('fencepost_upstash_commands_total{'));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

it('shows that invalidations flow, how fast, what waits and how well reads are served', async () => {
  const redis = createClient({ url: stack.redis.url });
  await redis.connect();
  await redis.hSet(
    statisticsKey(Date.now()),
    'isolate',
    '{"quota":{"hits":6,"misses":4,"target":0.8},"session":{"hits":9,"misses":1,"target":0.7}}',
  );
  await redis.close();
  const [organisation = ''] = await stack.organisations(1);
  await stack.write([organisation]);
  await stack.sql.query("update cache_invalidation.changes set at = at - interval '10 minutes'");
  const worker = startWorkerProcess(stack.environment());
  await asleep(worker);
  await ready(worker);
  const page = await open(worker);
  expect(await tile(page, 'Write to confirmed DEL'), 'rows from before the start do not count').toContain(
    '–',
  );

  await stack.fences.arm([fenceOf(organisation)]);
  await stack.write([organisation]);
  await stack.fences.deleted([fenceOf(organisation)]);
  await page.reload();
  await expect.poll(() => tile(page, 'Outbox')).toContain('empty');
  expect(await page.title()).toBe('flowing · Fencepost');
  expect(await heading(page)).toBe('Invalidations flow');
  expect(await page.locator('header p').textContent()).toBe('This worker delivers, 1 running.');
  expect(await notices(page)).toBe('');
  expect(await tile(page, 'Write to confirmed DEL')).toMatch(/DEL[\d.]+ m?smedian of/);
  await expect.poll(() => tile(page, 'Dead letters')).toContain('none');
  const row = (type: string) => page.locator('tr', { hasText: type });
  await row('quota').waitFor();
  expect(await row('quota').locator('th, td').allTextContents()).toEqual([
    'quota',
    '10',
    '60.0 %',
    '60.0 %',
    '80.0 %',
  ]);
  expect(await row('quota').getAttribute('class')).toBe('bad');
  expect(await row('session').getAttribute('class')).toBe('plain');
  // The style came through the page's own policy.
  expect(await page.locator('.lost').isVisible()).toBe(false);
  expect(await row('quota').locator('meter').getAttribute('value')).toBe('0.6');
  expect(complaints).toEqual([]);
});

it('refreshes itself: obstacles appear and disappear, and the page of a dead worker is marked', async () => {
  const upstash = await startUpstashFaults(stack.gateway.url);
  try {
    const worker = startWorkerProcess(stack.environment({ UPSTASH_REDIS_REST_URL: upstash.url }));
    await asleep(worker);
    const page = await open(worker);
    upstash.set({ kind: 'answer', status: 500, body: '{"error":"ERR out of order"}' });
    const [organisation = ''] = await stack.organisations(1);
    await stack.write([organisation]);
    await expect.poll(() => heading(page)).toBe('Invalidations do not flow');
    expect(await page.title()).toBe('NOT FLOWING · Fencepost');
    expect(await notices(page)).not.toBe('');
    await expect.poll(() => tile(page, 'Outbox')).toMatch(/^Outbox1rows; the oldest is/);
    upstash.set({ kind: 'none' });
    await expect.poll(() => heading(page)).toBe('Invalidations flow');
    expect(complaints).toEqual([]);

    await worker.kill();
    await page.locator('.lost').waitFor({ state: 'visible' });
    expect(await page.title()).toBe('NO ANSWER · Fencepost');
  } finally {
    await upstash.close();
  }
});

it('answers while the database does not, and says how old it is', async () => {
  const proxy = await startTcpProxy(stack.databaseUrl);
  try {
    const worker = startWorkerProcess(stack.environment({ DATABASE_URL: proxy.through(stack.databaseUrl) }));
    await asleep(worker);
    const page = await open(worker);
    await expect.poll(() => tile(page, 'Outbox')).toContain('empty');
    proxy.set('refuse');
    await expect.poll(() => notices(page)).toMatch(/is up to \d+\.\d s old: they do not answer now/);
    expect(await tile(page, 'Outbox')).toContain('empty');
  } finally {
    await proxy.close();
  }
});

it('of a standby says that it stands by, and leaves the queue to the leader', async () => {
  await asleep(startWorkerProcess(stack.environment()));
  const standby = startWorkerProcess(stack.environment());
  await standby.line(({ role }) => role === 'following');
  const page = await open(standby);
  await expect.poll(() => page.locator('header p').textContent()).toBe('This worker stands by, 2 running.');
  await expect.poll(() => tile(page, 'Dead letters')).toContain("shown on the leader's dashboard");
});

it('survives foreign values under its keys', async () => {
  const redis = createClient({ url: stack.redis.url });
  await redis.connect();
  const worker = startWorkerProcess(stack.environment());
  await asleep(worker);
  for (const text of ['{}', '5', 'null', '{"at":"nope","compared":1,"stale":[]}'])
    await redis.set(AUDIT_KEY, text);
  const page = await open(worker);
  await expect.poll(() => tile(page, 'Consistency')).toContain('not audited in the last week');
  await redis.del(AUDIT_KEY);
  await redis.close();
});

it('costs 25 commands however many people look, and none while nobody does', async () => {
  const worker = startWorkerProcess(stack.environment());
  await ready(worker);
  const url = await worker.url();
  const before = await commands(worker);
  const pages = await Promise.all(Array.from({ length: 20 }, async () => (await fetch(url)).text()));
  expect(new Set(pages.map((page) => page.includes('Invalidations flow')))).toEqual(new Set([true]));
  const spent = async () => (await commands(worker)) - before;
  await expect.poll(spent).toBeGreaterThanOrEqual(25);
  // A beat may fall in between.
  expect(await spent()).toBeLessThanOrEqual(26);
});
