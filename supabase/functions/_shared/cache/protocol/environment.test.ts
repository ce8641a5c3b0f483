import { describe, expect, it } from 'vitest';
import { httpAddress, prefixProblem, quotesProblem, tokenProblem, trimmed } from './environment.ts';

const example = 'https://<name>.upstash.io';

describe('httpAddress', () => {
  it.each([
    ['https://name.upstash.io', 'https://name.upstash.io'],
    ['https://name.upstash.io/', 'https://name.upstash.io'],
    ['https://name.upstash.io//', 'https://name.upstash.io'],
    ['HTTPS://Name.Upstash.io:443', 'https://name.upstash.io'],
    ['name.upstash.io', 'https://name.upstash.io'],
    ['redis.example.com:8443/redis/', 'https://redis.example.com:8443/redis'],
    ['http://127.0.0.1:8079', 'http://127.0.0.1:8079'],
    ['http://localhost:8079/redis//', 'http://localhost:8079/redis'],
    ['http://redis_http:80/', 'http://redis_http'],
    ['http://[::1]:8079', 'http://[::1]:8079'],
  ])('reads %s', (text, url) => {
    expect(httpAddress(text, example)).toEqual({ url, problem: null });
  });

  it.each([
    ['hunter2', /is not an address: expected https:\/\/<name>/],
    ['localhost:8079', /is not an address/],
    ['127.0.0.1:8079', /is not an address/],
    ['https://name. upstash.io', /is not an address/],
    ['https://', /is not an address/],
    ['ftp://name.upstash.io', /is not an address/],
    ['https://https://name.upstash.io', /is not an address/],
    ['https:https://name.upstash.io', /is not an address/],
    ['https://name.upstash.io,', /is not an address/],
    ['https://name.upstash.io;', /is not an address/],
    ['rediss://default:hunter2@name.upstash.io:6379', /is a redis:\/\/ address/],
    ['https://default:hunter2@name.upstash.io', /more than an address/],
    ['default:hunter2@name.upstash.io', /is not an address/],
    ['https://name.upstash.io?_token=hunter2', /more than an address/],
    ['"https://name.upstash.io"', /stands in quotes/],
    ['"https://name.upstash.io', /a quote at one end/],
    ["https://name.upstash.io'", /a quote at one end/],
    ['https://name.upstash.io/redis', /has a port or a path.*expected https:\/\/<name>\.upstash\.io/],
    ['https://console.upstash.com/redis/hunter2', /has a port or a path/],
    ['https://name.upstash.io:6379', /has a port or a path/],
    ['name.upstash.io:6379', /has a port or a path/],
  ])('names what is wrong with %s, without repeating it', (text, problem) => {
    const address = httpAddress(text, example);
    expect(address.problem).toMatch(problem);
    expect(address.problem).not.toContain('hunter2');
  });
});

it.each(['"x"', "'x'", '`x`', '“x”', '„x“', '«x»', '‘x’', '""', '"a\nb"', `"x'`])(
  'sees the quotes of %s',
  (text) => {
    expect(quotesProblem(text)).toMatch(/stands in quotes/);
    expect(tokenProblem(text)).toMatch(/stands in quotes/);
    expect(prefixProblem(text)).toMatch(/stands in quotes/);
  },
);

it.each(['"', '"x', "x'", '“x', 'x`'])('sees the quote at one end of %s', (text) => {
  expect(quotesProblem(text)).toMatch(/a quote at one end/);
  expect(tokenProblem(text)).toMatch(/a quote at one end/);
  expect(prefixProblem(text)).toMatch(/a quote at one end/);
});

it.each(['x', "it's", '{"default":"x"}'])('sees no quotes around %s', (text) => {
  expect(quotesProblem(text)).toBeNull();
});

it('refuses tokens that no header can hold, and prefixes that crowd keys out', () => {
  expect(tokenProblem('AXt0_-=')).toBeNull();
  expect(tokenProblem('AX t0')).toMatch(/no token has/);
  expect(tokenProblem('AX\nt0')).toMatch(/no token has/);
  expect(prefixProblem('app:'.repeat(25))).toBeNull();
  expect(prefixProblem('app:'.repeat(26))).toMatch(/longer than 100/);
  expect(prefixProblem('😀:')).toBeNull();
  for (const text of ['\ud83d:', '\ude00', 'a\0']) expect(prefixProblem(text)).toMatch(/surrogate/);
});

it('takes white space away, and counts an empty value as not set', () => {
  expect([trimmed(' x\n'), trimmed(' \t'), trimmed(''), trimmed(undefined)]).toEqual([
    'x',
    undefined,
    undefined,
    undefined,
  ]);
});
