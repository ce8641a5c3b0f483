/** What the gateway answers to a wrong token, malformed JSON, unknown commands, an oversized body, and while Redis is away. */
import { describe, expect, test } from 'vitest';
import { startGateway } from '../../local/gateway/gateway.ts';
import { startRedis } from '../../local/parts/redis.ts';
import { startUpstash } from '../support/upstash.ts';
import { connect, direct, LIMIT, rest, TOKEN, useGateway } from './support/gateway.ts';

useGateway();

describe('the token', () => {
  const unauthorised = {
    status: 401,
    body: { error: expect.stringMatching(/^WRONGPASS invalid or missing auth token/) },
  };

  test.each(['/', '/get/x', '/pipeline', '/multi-exec', '/anything'])('is required on %s', async (path) => {
    for (const header of [undefined, 'Bearer wrong', `Basic ${TOKEN}`, 'Bearer ', TOKEN]) {
      expect(await rest(path, { body: '["PING"]', authorization: header ?? '' })).toEqual(unauthorised);
    }
  });

  test('may stand in the query, and is no argument then', async () => {
    const query = `_token=${encodeURIComponent(TOKEN)}`;
    expect(await rest(`/set/q/v?EX=10&${query}`, { authorization: '' })).toEqual({
      status: 200,
      body: { result: 'OK' },
    });
    expect(await rest(`/get/q?${query}`, { authorization: '' })).toEqual({
      status: 200,
      body: { result: 'v' },
    });
    expect(await rest('/get/q?_token=wrong', { authorization: '' })).toEqual(unauthorised);
  });
});

describe('what is malformed', () => {
  test.each([
    ['/', 'no json', 'ERR failed to parse command'],
    ['/', '', 'ERR failed to parse command'],
    ['/', '{"get":"x"}', 'ERR failed to parse command'],
    ['/', '["GET",{"key":1}]', 'ERR failed to parse command'],
    ['/', '[]', 'ERR empty command'],
    ['/', '["GET"]', "ERR wrong number of arguments for 'get' command"],
    ['/', '["SET","a","b","XX","NX"]', 'ERR syntax error'],
    ['/pipeline', '[', 'ERR failed to parse pipeline request'],
    ['/pipeline', '{}', 'ERR failed to parse pipeline request'],
    ['/pipeline', '[]', 'ERR empty pipeline request'],
    ['/pipeline', '["GET","a"]', 'ERR failed to parse pipeline command'],
    ['/multi-exec', '[]', 'ERR empty pipeline request'],
    ['/multi-exec', '[["GET","a"],[]]', 'ERR empty transaction command'],
  ])('POST %s with %j', async (path, body, error) => {
    expect(await rest(path, { body })).toEqual({ status: 400, body: { error } });
  });

  test('an empty command in a pipeline fails alone', async () => {
    expect(await rest('/pipeline', { body: '[["SET","a","1"],[],["GET","a"]]' })).toEqual({
      status: 200,
      body: [{ result: 'OK' }, { error: 'ERR empty pipeline command' }, { result: '1' }],
    });
  });

  test('a method that REST does not have', async () => {
    expect(await rest('/get/a', { method: 'DELETE' })).toMatchObject({ status: 405 });
  });
});

describe('commands that Upstash does not serve', () => {
  const refused = (name: string) =>
    expect.stringMatching(new RegExp(`^ERR Command is not available: '${name}'`));

  test.each([
    ['config', 'GET', '*'],
    ['MONITOR'],
    ['subscribe', 'c'],
    ['BLPOP', 'q', '0'],
    ['multi'],
    ['SELECT', '1'],
    ['nonsense'],
  ])('%s', async (...command) => {
    const name = command[0]?.toUpperCase() ?? '';
    const body = JSON.stringify(command);
    expect(await rest('/', { body })).toEqual({ status: 400, body: { error: refused(name) } });
    expect(await rest(`/${command.join('/')}`)).toEqual({ status: 400, body: { error: refused(name) } });
    expect(await rest('/pipeline', { body: `[["PING"],${body}]` })).toEqual({
      status: 200,
      body: [{ result: 'PONG' }, { error: refused(name) }],
    });
    expect(await rest('/multi-exec', { body: `[["SET","m","1"],${body}]` })).toEqual({
      status: 400,
      body: { error: refused(name) },
    });
    expect(await direct.get('m')).toBeNull();
  });
});

describe('what is too large', () => {
  test('a request: 413 in the words of Upstash, and nothing is stored', async () => {
    const body = JSON.stringify(['SET', 'big', 'x'.repeat(LIMIT)]);
    expect(await rest('/', { body })).toEqual({
      status: 413,
      body: {
        error: expect.stringMatching(
          new RegExp(
            `^ERR max request size exceeded\\. Limit: ${LIMIT} bytes, Actual: ${body.length} bytes\\.`,
          ),
        ),
      },
    });
    await expect(connect('base64').set('big', 'x'.repeat(LIMIT))).rejects.toThrow(
      'ERR max request size exceeded',
    );
    expect(await direct.get('big')).toBeNull();
  });

  test('a request just below the limit is served', async () => {
    const value = 'x'.repeat(LIMIT - 100);
    expect(await connect('base64').set('big', value)).toBe('OK');
    expect(await direct.get('big')).toBe(value);
  });

  test('an answer', async () => {
    await direct.set('big', 'x'.repeat(LIMIT + 1));
    expect(await rest('/get/big')).toEqual({
      status: 400,
      body: { error: expect.stringMatching(/^ERR max request size exceeded/) },
    });
  });
});

test('while Redis is away the answer is 503, and it recovers by itself', async () => {
  const { redis: other, gateway: front, stop } = await startUpstash();
  try {
    const ask = () => fetch(`${front.url}/ping`, { headers: { authorization: `Bearer ${front.token}` } });
    expect((await ask()).status).toBe(200);
    await other.stop();
    const away = await ask();
    expect(away.status).toBe(503);
    expect(await away.json()).toEqual({ error: expect.stringMatching(/^ERR /) });
    const again = await startRedis({ port: other.port });
    try {
      await expect.poll(async () => (await ask()).status).toBe(200);
    } finally {
      await again.stop();
    }
  } finally {
    await stop();
  }
});

test('a gateway without a Redis does not start', async () => {
  await redisPortThatIsFree(async (url) => {
    await expect(startGateway({ redisUrl: url, token: TOKEN })).rejects.toMatchObject({
      code: 'PART_START_FAILED',
    });
  });
});

async function redisPortThatIsFree(action: (url: string) => Promise<void>): Promise<void> {
  const gone = await startRedis();
  await gone.stop();
  await action(gone.url);
}
