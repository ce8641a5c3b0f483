/**
 * What callers get while a part behind the functions is away: right answers without the cache, a 503 without the database, and a
 * health check that says which part it is.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FunctionsPart, startFunctions } from '../../local/parts/functions.ts';
import type { Part } from '../../local/parts/part.ts';
import { startPostgrest } from '../../local/parts/postgrest.ts';
import { JWT_SECRET, USERS } from './support/callers.ts';
import { callFunction, type FunctionStack, type Parameters, startFunctionStack } from './support/stack.ts';

const quota = { org: 'org-acme', provider: 'openai', model: 'gpt-5-mini' };

/** One stack for the file. Each block takes one part away. Only the API of the database is started again for the later blocks. */
let stack: FunctionStack;
const stopAtEnd: Part[] = [];
beforeAll(async () => {
  stack = await startFunctionStack();
});
afterAll(async () => {
  await stack?.stop();
  for (const part of stopAtEnd) await part.stop();
});

/** Polls health-check, because it serves a result again for 1 s. */
const expectHealth = (expected: object) =>
  expect.poll(() => stack.call('health-check')).toMatchObject(expected);

describe('with all parts there', () => {
  it('says to anybody that it is healthy, and nothing else', async () => {
    await stack.call('quota-check', quota, { as: 'member' });
    const called = await stack.call('health-check');
    expect([called.status, called.body]).toMatchObject([
      200,
      {
        status: 'healthy',
        cache: {
          enabled: true,
          connected: true,
          keyCount: expect.any(Number),
          latencyMs: expect.any(Number),
        },
        database: { connected: true, latencyMs: expect.any(Number) },
        worker: { alive: true, secondsBehind: 0 },
      },
    ]);
    expect((called.body as { cache: { keyCount: number } }).cache.keyCount).toBeGreaterThan(0);
    // The only text is the status: no address and no secret.
    const words: string[] = [];
    JSON.parse(called.text, (_name, value) => (typeof value === 'string' ? words.push(value) : value));
    expect(words).toEqual(['healthy']);
  });

  it('answers a hit with one command in one request, membership included', async () => {
    for (const name of ['quota-check', 'usage-summary'] as const) {
      const day = new Date().toISOString().slice(0, 10);
      const parameters = name === 'quota-check' ? quota : { org: 'org-acme', start: day, end: day };
      await stack.call(name, parameters, { as: 'member' });
      // Repeated until no command of the worker is counted with it.
      await expect
        .poll(async () => {
          const [commands, requests] = [stack.gateway.commandCount(), stack.gateway.requestCount()];
          const hit = await stack.call(name, parameters, { as: 'member' });
          expect(hit.headers.get('x-cache')).toBe('HIT');
          return [stack.gateway.commandCount() - commands, stack.gateway.requestCount() - requests];
        })
        .toEqual([1, 1]);
    }
  });

  it('tells where the time went', async () => {
    const called = await stack.call('quota-check', quota, { as: 'member' });
    expect(called.headers.get('server-timing')).toMatch(
      /^auth;dur=[\d.]+, read;dur=[\d.]+, total;dur=[\d.]+$/,
    );
    await stack.emptyCache();
    const loaded = await stack.call('quota-check', quota, { as: 'member' });
    expect(loaded.headers.get('server-timing')).toMatch(/, db;dur=[\d.]+/);
    expect(called.headers.get('cache-control')).toBe('private, no-store');
  });
});

describe('without a cache', () => {
  let functions: FunctionsPart;
  beforeAll(async () => {
    functions = await startFunctions({
      environment: {
        SUPABASE_URL: stack.apiUrl,
        SUPABASE_ANON_KEY: stack.tokens.anonymous ?? '',
        FENCEPOST_JWT_SECRET: JWT_SECRET,
        UPSTASH_REDIS_REST_URL: '',
        UPSTASH_REDIS_REST_TOKEN: '',
      },
    });
  });
  afterAll(() => functions?.stop());

  it('answers from the database, and calls that degraded', async () => {
    const call = (name: string, parameters: Parameters) =>
      callFunction(functions.url, stack.tokens, name, parameters, { as: 'member' });
    const answer = await call('quota-check', quota);
    expect([answer.status, answer.headers.get('x-cache')]).toEqual([200, 'BYPASS']);
    expect((await call('health-check', {})).body).toMatchObject({
      status: 'degraded',
      cache: { enabled: false, connected: false, keyCount: 0 },
    });
  });
});

describe('while the database is away', () => {
  beforeAll(async () => {
    await stack.call('quota-check', quota, { as: 'member' });
    await stack.call('quota-check', quota, { as: 'member' });
    await stack.api.stop();
  });
  afterAll(async () => {
    const port = Number(new URL(stack.apiUrl).port);
    stopAtEnd.push(await startPostgrest({ databaseUrl: stack.databaseUrl, jwtSecret: JWT_SECRET, port }));
  });

  it('goes on answering hits, answers 503 to the rest, and calls that unhealthy', async () => {
    const hit = await stack.call('quota-check', quota, { as: 'member' });
    expect([hit.status, hit.headers.get('x-cache')]).toEqual([200, 'HIT']);
    // The owner's membership is not cached, so only the database can confirm it.
    expect(await stack.call('quota-check', quota, { as: 'owner' })).toMatchObject({
      status: 503,
      body: { code: 'DATABASE_UNAVAILABLE' },
    });
    await expectHealth({
      status: 503,
      body: {
        status: 'unhealthy',
        database: { connected: false, latencyMs: null },
        cache: { connected: true },
      },
    });
    expect(stack.lines.join('\n')).not.toMatch(/eyJ|127\.0\.0\.1|org-acme/);
  });
});

describe('while no worker is alive', () => {
  beforeAll(() => stack.stopWorker());

  it('never answers from a membership that no worker guards', async () => {
    await stack.call('quota-check', quota, { as: 'owner' });
    const second = await stack.call('quota-check', quota, { as: 'owner' });
    expect([second.status, second.headers.get('x-cache')]).toEqual([200, 'MISS']);
    await stack.sql("delete from public.org_members where org_id = 'org-acme' and user_id = $1", [
      USERS.owner,
    ]);
    // Nothing was invalidated, and the owner is refused all the same.
    expect((await stack.call('quota-check', quota, { as: 'owner' })).status).toBe(403);
    await expectHealth({ body: { status: 'degraded', worker: { alive: false } } });
  });

  it('shows how far the worker is behind', async () => {
    await stack.sql("update public.quotas set used = used + 1 where org_id = 'org-acme'");
    const secondsBehind = async () => {
      const { body } = await stack.call('health-check');
      return (body as { worker: { secondsBehind: number } }).worker.secondsBehind;
    };
    await expect.poll(secondsBehind).toBeGreaterThan(0);
  });
});

describe('while the cache is away', () => {
  beforeAll(() => stack.gateway.stop());

  it('answers from the database, and calls that degraded', async () => {
    for (const [name, parameters] of [
      ['quota-check', quota],
      ['cost-estimate', { provider: 'openai', model: 'gpt-5-mini', input_tokens: 1, output_tokens: 1 }],
      ['session-state', { id: 'session-acme-1' }],
      ['user-preferences', {}],
    ] as const) {
      const called = await stack.call(name, parameters, { as: 'member' });
      expect([name, called.status]).toEqual([name, 200]);
    }
    const bypassed = await stack.call('quota-check', quota, { as: 'member' });
    expect([bypassed.status, bypassed.headers.get('x-cache')]).toEqual([200, 'BYPASS']);
    // The same refusals as with a cache: the database decides alone.
    expect((await stack.call('quota-check', quota, { as: 'stranger' })).status).toBe(403);
    expect((await stack.call('session-state', { id: 'session-acme-1' }, { as: 'stranger' })).status).toBe(
      404,
    );

    await expectHealth({
      status: 200,
      body: {
        status: 'degraded',
        cache: { enabled: true, connected: false, keyCount: 0 },
        worker: { alive: null },
      },
    });
    expect(stack.lines.join('\n')).not.toMatch(/eyJ|token-of-the-tests|org-acme|gpt-5-mini/);
  });
});
