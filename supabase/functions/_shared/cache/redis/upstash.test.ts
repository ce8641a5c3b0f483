import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CacheError } from '../protocol/errors.ts';
import { RedisFailure } from './failure.ts';
import { Upstash } from './upstash.ts';

/** A server that keeps what it is asked and gives the replies it is told to; null: none. */
const world = { asked: [] as unknown[], replies: [] as ({ status: number; body: string } | null)[] };
let server: Server;
let redis: Upstash;
let observed: string[];

beforeAll(async () => {
  server = createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    world.asked.push(JSON.parse(text));
    const reply = world.replies.shift();
    if (reply !== null && reply !== undefined) response.writeHead(reply.status).end(reply.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  Object.assign(world, { asked: [], replies: [] });
  observed = [];
  redis = connect(5_000);
});

function connect(timeout: number): Upstash {
  return new Upstash({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    token: 'SECRET-token',
    prefix: 'app[1]:',
    timeout,
    observe: (command) => observed.push(command),
  });
}

function replies(...results: unknown[]): void {
  world.replies = results.map((result) => ({ status: 200, body: JSON.stringify({ result }) }));
}

function together(...results: unknown[]): void {
  world.replies = [{ status: 200, body: JSON.stringify(results.map((result) => ({ result }))) }];
}

describe('the prefix', () => {
  it('stands in front of every key, and nowhere else', async () => {
    replies(['a', null], 'v', 'v', 'OK', 2, ['x']);
    expect(await redis.getMany(['k', 'l'])).toEqual(['a', null]);
    expect(await redis.get('k')).toBe('v');
    expect(await redis.getAndRenew('k', 90)).toBe('v');
    await redis.set('k', 'value', 10);
    expect(await redis.del(['k', 'l'])).toBe(2);
    expect(await redis.hashValues('h')).toEqual(['x']);
    expect(world.asked).toEqual([
      ['mget', 'app[1]:k', 'app[1]:l'],
      ['get', 'app[1]:k'],
      ['getex', 'app[1]:k', 'ex', 90],
      ['set', 'app[1]:k', 'value', 'ex', 10],
      ['del', 'app[1]:k', 'app[1]:l'],
      ['hvals', 'app[1]:h'],
    ]);
    expect(observed).toEqual(['MGET', 'GET', 'GETEX', 'SET', 'DEL', 'HVALS']);
  });

  it('stands in front of the keys of a transaction and of a pipeline', async () => {
    together('OK', 'OK');
    await redis.setTogether([
      { key: 'k', value: 'v', seconds: null },
      { key: 'l', value: 'w', seconds: 90 },
    ]);
    together(1, 1);
    await redis.record('h', 'field', 'value', 60);
    const writes = [
      { op: 'create', key: 'f', value: 'v', seconds: 60 },
      { op: 'delete', keys: ['k', 'l'] },
    ] as const;
    world.replies = [{ status: 200, body: '[{"result":null},{"error":"ERR SECRET"},{"result":["a"]}]' }];
    const exchange = await redis.writeThenRead(writes, ['k']);
    expect(exchange.values).toEqual(['a']);
    expect(exchange.replies[0]).toBeNull();
    expect(exchange.replies[1]).toMatchObject({ kind: 'rejected', isReply: true });
    expect(world.asked).toEqual([
      [
        ['set', 'app[1]:k', 'v'],
        ['set', 'app[1]:l', 'w', 'ex', 90],
      ],
      [
        ['hset', 'app[1]:h', 'field', 'value'],
        ['expire', 'app[1]:h', 60],
      ],
      [
        ['set', 'app[1]:f', 'v', 'nx', 'get', 'ex', 60],
        ['del', 'app[1]:k', 'app[1]:l'],
        ['mget', 'app[1]:k'],
      ],
    ]);
  });

  it('is escaped in globs, and taken off the keys of a scan', async () => {
    replies(['7', ['app[1]:quota:a', 'app[1]:quota:b']]);
    expect(await redis.scan('0', 'quota:*', 100)).toEqual({ cursor: '7', keys: ['quota:a', 'quota:b'] });
    expect(world.asked[0]).toContain('app\\[1\\]:quota:*');
  });

  it('counts when a DEL is split into requests', async () => {
    redis = new Upstash({
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      token: 't',
      prefix: 'p'.repeat(100),
      timeout: 5_000,
    });
    replies(...Array.from({ length: 10 }, () => 1));
    const keys = Array.from({ length: 5_000 }, (_, index) => `key:${index}`);
    expect(await redis.del(keys)).toBe(world.asked.length);
    expect(world.asked.length).toBeGreaterThan(1);
    expect(world.asked.flatMap((command) => (command as string[]).slice(1))).toHaveLength(keys.length);
  });
});

describe('a call that fails', () => {
  const failures = [
    ['has no reply in time', null, { kind: 'timeout' }],
    ['is refused', { status: 400, body: '{"error":"ERR SECRET"}' }, { kind: 'rejected', isReply: true }],
    ['is answered by a proxy', { status: 502, body: '<html>SECRET' }, { kind: 'not-json' }],
    ['is answered with half a reply', { status: 200, body: '{"result":["SECRET' }, { kind: 'not-json' }],
    ['has no result', { status: 200, body: '{}' }, { kind: 'unusable' }],
    ['has too few values', { status: 200, body: '{"result":[null]}' }, { kind: 'unusable', detail: 'MGET' }],
    ['has numbers for values', { status: 200, body: '{"result":[1,2]}' }, { kind: 'unusable' }],
    ['is answered with null', { status: 200, body: 'null' }, { kind: 'unusable' }],
  ] as const;

  it.each(failures)('%s: it was sent once, and its failure repeats nothing', async (_, reply, expected) => {
    if (reply === null) redis = connect(200);
    world.replies = [reply];
    const failure: unknown = await redis.getMany(['SECRET-key', 'l']).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(RedisFailure);
    expect(failure).toMatchObject(expected);
    expect(world.asked).toHaveLength(1);
    const { message, stack, cause } = failure as RedisFailure;
    expect([message, stack, inspect(failure)].join()).not.toContain('SECRET');
    expect(cause).toBeUndefined();
  });

  it('names the system’s code where nobody listens', async () => {
    const nobody = new Upstash({ url: 'http://127.0.0.1:2', token: 't', prefix: '', timeout: 5_000 });
    await expect(nobody.get('k')).rejects.toMatchObject({ kind: 'unreachable', detail: 'ECONNREFUSED' });
  });

  it.each([
    ['GET', (open: Upstash) => open.get('k'), 1],
    ['DEL', (open: Upstash) => open.del(['k']), '1'],
    ['SET', (open: Upstash) => open.set('k', 'v', 1), null],
    ['PING', (open: Upstash) => open.ping(), 'pong'],
    ['SCAN', (open: Upstash) => open.scan('0', '*', 1), ['0']],
    ['HVALS', (open: Upstash) => open.hashValues('h'), 'x'],
    ['INFO', (open: Upstash) => open.info(), 7],
  ])('%s does not take a reply of another shape', async (command, call, result) => {
    replies(result);
    await expect(call(redis)).rejects.toMatchObject({ kind: 'unusable', detail: command });
  });

  it('is explained by its owner', async () => {
    redis = new Upstash({
      url: 'http://127.0.0.1:1',
      token: 't',
      prefix: '',
      timeout: 5_000,
      explain: ({ kind }) => new Error(`explained: ${kind}`),
    });
    await expect(redis.get('k')).rejects.toThrow('explained: unreachable');
  });
});

it('refuses a URL that is none, without repeating it', () => {
  const misconfigured = () => new Upstash({ url: 'SECRET nonsense', token: 't', prefix: '', timeout: 1 });
  expect(misconfigured).toThrow(CacheError);
  expect(misconfigured).not.toThrow('SECRET');
});
