/** The gateway against the real @upstash/redis client and a real Redis, in both encodings; and what it counts. */
import type { Redis } from '@upstash/redis';
import { beforeAll, describe, expect, test } from 'vitest';
import { connect, direct, gateway, rest, useGateway } from './support/gateway.ts';

useGateway();

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
