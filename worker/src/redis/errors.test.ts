import { describe, expect, it } from 'vitest';
import { ExitCode } from '../lib/errors.ts';
import { classify } from './errors.ts';

class UpstashError extends Error {
  override name = 'UpstashError';
}
class UpstashJSONParseError extends Error {
  override name = 'UpstashJSONParseError';
}

const reply = (text: string) => new UpstashError(`${text}, command was: ["DEL","secret-key"]`);

describe('classify', () => {
  const { unavailable, denied, configuration } = ExitCode;
  it.each([
    ['WRONGPASS invalid or missing auth token', 'UPSTASH_UNAUTHORIZED', 'wait', denied, 'copy the token'],
    ['Unauthorized', 'UPSTASH_UNAUTHORIZED', 'wait', denied, 'copy the token'],
    [
      'NOAUTH Authentication required.',
      'UPSTASH_UNAUTHORIZED',
      'wait',
      denied,
      "that server's own configuration",
    ],
    [
      "NOPERM this user has no permissions to run the 'del' command",
      'UPSTASH_READ_ONLY',
      'wait',
      denied,
      'no right to a command',
    ],
    ['NOPERM No permissions to access a key', 'UPSTASH_REFUSED', 'bisect', denied, 'no right to some keys'],
    [
      'ERR max requests limit exceeded. Limit: 500000, Usage: 500000',
      'UPSTASH_QUOTA',
      'wait',
      unavailable,
      'used up',
    ],
    ['ERR max daily request limit exceeded', 'UPSTASH_QUOTA', 'wait', unavailable, 'used up'],
    ['ERR too many requests', 'UPSTASH_THROTTLED', 'wait', unavailable, 'slowing down'],
    [
      'ERR max request size exceeded. Limit: 1048576 bytes',
      'UPSTASH_TOO_LARGE',
      'bisect',
      unavailable,
      'splitting',
    ],
    [
      'LOADING Redis is loading the dataset in memory',
      'UPSTASH_SERVER_ERROR',
      'wait',
      unavailable,
      'is loading its data',
    ],
    ['ERR DB capacity quota exceeded', 'UPSTASH_SERVER_ERROR', 'wait', unavailable, 'memory is full'],
    [
      'ERR max key size exceeded. Limit: 32768 bytes, Actual: 40000 bytes',
      'UPSTASH_TOO_LARGE',
      'bisect',
      unavailable,
      'splitting',
    ],
    ['ERR max single record size exceeded', 'UPSTASH_TOO_LARGE', 'bisect', unavailable, 'splitting'],
    ['ERR max number of clients reached', 'UPSTASH_SERVER_ERROR', 'wait', unavailable, 'cannot serve'],
    [
      "READONLY You can't write against a read only replica.",
      'UPSTASH_SERVER_ERROR',
      'wait',
      unavailable,
      'is a replica',
    ],
    [
      "OOM command not allowed when used memory > 'maxmemory'.",
      'UPSTASH_SERVER_ERROR',
      'wait',
      unavailable,
      'memory is full',
    ],
    [
      'MISCONF Redis is configured to save RDB snapshots, but it is currently unable to persist on disk.',
      'UPSTASH_SERVER_ERROR',
      'wait',
      unavailable,
      'cannot save',
    ],
    [
      'EXECABORT Transaction discarded because of previous errors.',
      'UPSTASH_SERVER_ERROR',
      'wait',
      unavailable,
      'discarded a transaction',
    ],
    [
      "ERR unknown command 'GETEX', with args beginning with: 'secret-key'",
      'UPSTASH_BAD_ANSWER',
      'wait',
      configuration,
      'does not know a command',
    ],
    [
      'WRONGTYPE Operation against a key holding the wrong kind of value',
      'UPSTASH_REFUSED',
      'bisect',
      unavailable,
      'CACHE_PREFIX',
    ],
    // As a proxy says it whose Redis is away: of no target anything is known.
    ['ERR Redis is not reachable', 'UPSTASH_SERVER_ERROR', 'bisect', unavailable, 'that its Redis is up'],
    ['ERR syntax error', 'UPSTASH_SERVER_ERROR', 'bisect', unavailable, 'that its Redis is up'],
    ['CROSSSLOT Keys', 'UPSTASH_SERVER_ERROR', 'wait', unavailable, '(CROSSSLOT)'],
    ['something new', 'UPSTASH_SERVER_ERROR', 'wait', unavailable, 'not known here: check'],
  ] as const)('%s', (text, code, course, exitCode, words) => {
    const failure = classify(reply(text));
    expect(failure).toMatchObject({ code, course, exitCode });
    expect(failure.message).toContain(words);
    expect(failure.message).not.toMatch(/secret-key|dead letter/);
    expect(failure.cause).toBeUndefined();
  });

  it.each([
    ['CERT_HAS_EXPIRED', 'TLS with the server'],
    ['ERR_SSL_WRONG_VERSION_NUMBER', 'TLS with the server'],
    ['ECONNRESET', 'broke'],
    ['ECONNREFUSED', 'Nothing answers'],
    ['ENOTFOUND', 'no address'],
  ])('%s', (systemCode, words) => {
    const failure = classify(
      new TypeError('fetch failed', { cause: Object.assign(new Error('x'), { code: systemCode }) }),
    );
    expect(failure).toMatchObject({ code: 'UPSTASH_UNREACHABLE', course: 'wait', exitCode: unavailable });
    expect(failure.message).toContain(words);
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
