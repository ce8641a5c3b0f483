import { describe, expect, it } from 'vitest';
import { classify } from './errors.ts';

class UpstashError extends Error {
  override name = 'UpstashError';
}
class UpstashJSONParseError extends Error {
  override name = 'UpstashJSONParseError';
}

const reply = (text: string) => new UpstashError(`${text}, command was: ["DEL","secret-key"]`);

describe('classify', () => {
  it.each([
    ['WRONGPASS invalid or missing auth token', 'UPSTASH_UNAUTHORIZED', 'wait'],
    ['Unauthorized', 'UPSTASH_UNAUTHORIZED', 'wait'],
    ["NOPERM this user has no permissions to run the 'del' command", 'UPSTASH_READ_ONLY', 'wait'],
    ['NOPERM No permissions to access a key', 'UPSTASH_REFUSED', 'bisect'],
    ['ERR max requests limit exceeded. Limit: 500000, Usage: 500000', 'UPSTASH_QUOTA', 'wait'],
    ['ERR max daily request limit exceeded', 'UPSTASH_QUOTA', 'wait'],
    ['ERR too many requests', 'UPSTASH_THROTTLED', 'wait'],
    ['ERR max request size exceeded. Limit: 1048576 bytes', 'UPSTASH_TOO_LARGE', 'bisect'],
    ['LOADING Redis is loading the dataset in memory', 'UPSTASH_SERVER_ERROR', 'wait'],
    ['ERR syntax error', 'UPSTASH_REFUSED', 'bisect'],
    ['something new', 'UPSTASH_SERVER_ERROR', 'wait'],
  ])('%s', (text, code, course) => {
    const failure = classify(reply(text));
    expect(failure).toMatchObject({ code, course });
    expect(failure.message).not.toContain('secret-key');
    expect(failure.cause).toBeUndefined();
  });

  it.each([
    [new UpstashJSONParseError('Unable to parse response body: <html>secret-key'), 'UPSTASH_SERVER_ERROR'],
    [new DOMException('The operation was aborted due to timeout', 'TimeoutError'), 'UPSTASH_TIMEOUT'],
    [
      new TypeError('fetch failed', { cause: Object.assign(new Error('x'), { code: 'ENOTFOUND' }) }),
      'UPSTASH_UNREACHABLE',
    ],
    [
      new TypeError('fetch failed', { cause: Object.assign(new Error('x'), { code: 'ECONNREFUSED' }) }),
      'UPSTASH_UNREACHABLE',
    ],
  ])('%s', (error, code) => {
    const failure = classify(error);
    expect(failure).toMatchObject({ code, course: 'wait' });
    expect(failure.message).not.toContain('secret-key');
  });
});
