/**
 * The gateway against the real @upstash/redis client and a real Redis, in both encodings, and against plain HTTP where
 * the client never goes: what a wrong token, malformed JSON or an oversized body is answered with.
 */
import { Redis } from '@upstash/redis';
import { createClient } from 'redis';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type GatewayPart, startGateway } from '../../local/gateway/gateway.ts';
import { type RedisPart, startRedis } from '../../local/parts/redis.ts';

const TOKEN = 'a-token/with+odd=characters';
const LIMIT = 64 * 1024;

let redis: RedisPart;
let gateway: GatewayPart;
let direct: ReturnType<typeof createClient>;

beforeAll(async () => {
  redis = await startRedis();
  gateway = await startGateway({ redisUrl: redis.url, token: TOKEN, maxRequestBytes: LIMIT });
  direct = createClient({ url: redis.url, RESP: 2 });
  await direct.connect();
});

afterAll(async () => {
  direct?.destroy();
  await gateway?.stop();
  await redis?.stop();
});

beforeEach(async () => {
  await direct.sendCommand(['FLUSHALL']);
});

function connect(encoding: 'base64' | false, token = TOKEN): Redis {
  return new Redis({
    url: gateway.url,
    token,
    responseEncoding: encoding,
    automaticDeserialization: false,
    enableTelemetry: false,
    retry: false,
  });
}

/** Values that break a careless encoder: other alphabets, controls, quotes, what looks like JSON, OK or base64. */
const awkward = [
  '',
  'naïve — 日本語 🎈',
  '"quoted"\\\n\t\u0001',
  '{"a":[1,2]}',
  'OK',
  'T0s=',
  '123',
  'null',
  '%2F a+b/c?d&e',
];

describe.each([['base64' as const], [false as const]])('commands with encoding %s', (encoding) => {
  let client: Redis;
  beforeAll(() => {
    client = connect(encoding);
  });

  test('ping, dbsize and an empty database', async () => {
    expect(await client.ping()).toBe('PONG');
    expect(await client.dbsize()).toBe(0);
    expect(await client.get('missing')).toBeNull();
    expect(await client.mget('a', 'b')).toEqual([null, null]);
  });

  test('set and get keep every awkward value', async () => {
    for (const value of awkward) {
      expect(await client.set('key', value)).toBe('OK');
      expect(await client.get('key')).toBe(value);
    }
  });

  test('mget keeps awkward keys and values apart', async () => {
    for (const [index, value] of awkward.entries()) await client.set(`key:${index}:${value}`, value);
    const keys = awkward.map((value, index) => `key:${index}:${value}`);
    expect(await client.mget(...keys, 'missing')).toEqual([...awkward, null]);
  });

  test('set with EX, NX and GET', async () => {
    expect(await client.set('fence', 'first', { nx: true, ex: 60, get: true })).toBeNull();
    expect(await client.set('fence', 'second', { nx: true, ex: 60, get: true })).toBe('first');
    expect(await client.set('fence', 'third', { nx: true })).toBeNull();
    expect(await client.get('fence')).toBe('first');
    expect(await client.ttl('fence')).toBe(60);
    expect(await client.set('fence', 'fourth', { px: 50_000 })).toBe('OK');
    expect(await client.pttl('fence')).toBeLessThanOrEqual(50_000);
  });

  test('getex, expire and del', async () => {
    await client.set('beat', 'epoch');
    expect(await client.getex('beat', { ex: 90 })).toBe('epoch');
    expect(await client.ttl('beat')).toBe(90);
    expect(await client.expire('beat', 10)).toBe(1);
    expect(await client.expire('missing', 10)).toBe(0);
    expect(await client.del('beat', 'missing')).toBe(1);
    expect(await client.getex('beat', { ex: 90 })).toBeNull();
  });

  test('incr, hset, hincrby and hgetall', async () => {
    expect(await client.incr('hits')).toBe(1);
    expect(await client.incrby('hits', 41)).toBe(42);
    expect(await client.hset('stats', { 'HIT:é': '1', miss: '2' })).toBe(2);
    expect(await client.hincrby('stats', 'miss', 5)).toBe(7);
    // Without automatic deserialisation the client hands over Redis's flat array.
    expect(await client.hgetall('stats')).toEqual(['HIT:é', '1', 'miss', '7']);
    expect(await client.hgetall('missing')).toEqual([]);
  });

  test('scan finds every key once around, whatever its characters', async () => {
    const names = Array.from({ length: 250 }, (_, index) => `scan:${index}:é*?`);
    await direct.mSet(names.flatMap((name) => [[name, '1']]) as [string, string][]);
    const found = new Set<string>();
    let cursor = '0';
    do {
      const [next, keys] = await client.scan(cursor, { match: 'scan:*', count: 50 });
      for (const key of keys) found.add(key);
      cursor = next;
    } while (cursor !== '0');
    expect([...found].sort()).toEqual([...names].sort());
  });

  test('a pipeline answers in order and reports a failing command in its place', async () => {
    const pipeline = client.pipeline();
    pipeline.set('p', 'häh');
    pipeline.get('p');
    pipeline.lpush('p', 'not a list');
    pipeline.mget('p', 'q');
    const results = await pipeline.exec({ keepErrors: true });
    expect(results.map(({ result }) => result)).toEqual(['OK', 'häh', undefined, ['häh', null]]);
    expect(results[2]?.error).toMatch(/^WRONGTYPE /);
  });

  test('a transaction runs as a whole, errors inside it included', async () => {
    const transaction = client.multi();
    transaction.set('t', '1');
    transaction.incr('t');
    transaction.get('t');
    expect(await transaction.exec()).toEqual(['OK', 2, '2']);
  });

  test('an error of Redis reaches the caller in its words', async () => {
    await client.set('text', 'abc');
    await expect(client.incr('text')).rejects.toThrow('ERR value is not an integer or out of range');
  });

  test('a wrong token is refused', async () => {
    await expect(connect(encoding, 'wrong').get('key')).rejects.toThrow(
      'WRONGPASS invalid or missing auth token',
    );
  });
});

test('bytes that are no UTF-8 survive base64 and become U+FFFD without it', async () => {
  const bytes = Buffer.from([0x00, 0xff, 0x80, 0x41]);
  await direct.sendCommand(['SET', 'bytes', bytes]);
  expect(await rest('/get/bytes', { encoding: 'base64' })).toEqual({
    status: 200,
    body: { result: bytes.toString('base64') },
  });
  expect(await rest('/get/bytes')).toEqual({ status: 200, body: { result: '\u0000\ufffd\ufffdA' } });
});

test('a POST body is the last argument as it is, before the query', async () => {
  const bytes = Buffer.from([0xde, 0xad, 0x00, 0xff]);
  expect(await rest('/set/raw?EX=100', { body: bytes })).toEqual({ status: 200, body: { result: 'OK' } });
  expect(await rest('/get/raw', { encoding: 'base64' })).toEqual({
    status: 200,
    body: { result: bytes.toString('base64') },
  });
  expect(await direct.ttl('raw')).toBe(100);
});

test('path segments are decoded one by one', async () => {
  expect(await rest(`/set/${encodeURIComponent('a/b:%é')}/${encodeURIComponent('v/1')}`)).toMatchObject({
    status: 200,
  });
  expect(await direct.get('a/b:%é')).toBe('v/1');
  expect(await rest('/get/%E0%A4%A')).toEqual({
    status: 400,
    body: { error: 'ERR failed to parse command' },
  });
});

test('a transaction that Redis discards changes nothing', async () => {
  const body = JSON.stringify([
    ['SET', 'x', '1'],
    ['SET', 'x'],
  ]);
  expect(await rest('/multi-exec', { body })).toEqual({
    status: 400,
    body: { error: 'EXECABORT Transaction discarded because of previous errors.' },
  });
  expect(await direct.get('x')).toBeNull();
});

test('transactions of concurrent requests do not mix', async () => {
  const client = connect('base64');
  const outcomes = await Promise.all(
    Array.from({ length: 40 }, async () => {
      const transaction = client.multi();
      transaction.incr('n');
      transaction.incr('n');
      return await transaction.exec<[number, number]>();
    }),
  );
  for (const [first, second] of outcomes) expect(second).toBe(first + 1);
  expect(await client.get('n')).toBe('80');
});

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

describe('counting', () => {
  const spent = async (action: () => Promise<unknown>) => {
    const before = [gateway.commandCount(), gateway.requestCount()] as const;
    await action();
    return { commands: gateway.commandCount() - before[0], requests: gateway.requestCount() - before[1] };
  };

  test('every command of a pipeline or transaction is billed, refused ones are not', async () => {
    expect(await spent(() => rest('/get/a'))).toEqual({ commands: 1, requests: 1 });
    expect(
      await spent(() => rest('/pipeline', { body: '[["GET","a"],["GET","b"],["CONFIG","GET","*"]]' })),
    ).toEqual({
      commands: 2,
      requests: 1,
    });
    expect(await spent(() => rest('/multi-exec', { body: '[["GET","a"],["GET","b"]]' }))).toEqual({
      commands: 2,
      requests: 1,
    });
    expect(await spent(() => rest('/', { body: 'no json' }))).toEqual({ commands: 0, requests: 1 });
    expect(await spent(() => rest('/get/a', { authorization: 'Bearer wrong' }))).toEqual({
      commands: 0,
      requests: 0,
    });
  });

  test('the client hides no further command', async () => {
    const client = connect('base64');
    expect(await spent(() => client.mget('a', 'b', 'c', 'd'))).toEqual({ commands: 1, requests: 1 });
  });
});

test('while Redis is away the answer is 503, and it recovers by itself', async () => {
  const other = await startRedis();
  const front = await startGateway({ redisUrl: other.url, token: TOKEN });
  try {
    const ask = () => fetch(`${front.url}/ping`, { headers: { authorization: `Bearer ${TOKEN}` } });
    expect((await ask()).status).toBe(200);
    await other.stop();
    const away = await ask();
    expect(away.status).toBe(503);
    expect(await away.json()).toEqual({ error: expect.stringMatching(/^ERR /) });
    const again = await startRedis({ port: other.port });
    try {
      await expect.poll(async () => (await ask()).status, { timeout: 5_000 }).toBe(200);
    } finally {
      await again.stop();
    }
  } finally {
    await front.stop();
    await other.stop();
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

interface RestOptions {
  readonly method?: string;
  readonly body?: string | Buffer<ArrayBuffer>;
  readonly encoding?: 'base64';
  readonly authorization?: string;
}

async function rest(path: string, options: RestOptions = {}): Promise<{ status: number; body: unknown }> {
  const { authorization = `Bearer ${TOKEN}`, body, encoding } = options;
  const response = await fetch(`${gateway.url}${path}`, {
    method: options.method ?? (body === undefined ? 'GET' : 'POST'),
    headers: {
      ...(authorization === '' ? {} : { authorization }),
      ...(encoding === undefined ? {} : { 'upstash-encoding': encoding }),
    },
    ...(body === undefined ? {} : { body }),
  });
  return { status: response.status, body: await response.json() };
}
