/**
 * Errors of the cache module: one class with a stable `code`, a message that says what to do about it, and `cause`.
 * No message holds a cached value or a token, and none holds a key: what a log line shows of an error is safe to show.
 */

export type CacheErrorCode =
  /** A key or a segment of one that no row could have written: lone surrogates, NUL, a malformed uuid, a reserved name. */
  | 'INVALID_KEY'
  /** A value that JSON would change on its way through the cache: a Date, a bigint, a Map, a Response, NaN, a cycle. Or one that the serializer refuses. */
  | 'UNSUPPORTED_VALUE'
  /** `set(key, value, ttl, token)` with what `begin` did not give out for this key. */
  | 'TOKEN_MISMATCH'
  /** A loader that is no function, or a batch loader's answer in which no key could be looked up. */
  | 'INVALID_LOAD'
  /** A loader took longer than the call's `timeout`. */
  | 'LOAD_TIMEOUT'
  /** Redis answered in a way that is no answer: an error, too few replies, a reply of the wrong type. */
  | 'REDIS_REPLY'
  /** Redis could not be reached in time, or refused the request as a whole. */
  | 'REDIS_UNREACHABLE'
  /** A key type or an option that cannot work. */
  | 'INVALID_CONFIGURATION';

export class CacheError extends Error {
  readonly code: CacheErrorCode;

  /**
   * @param code stable name to branch on
   * @param message what is wrong and what to do about it, without keys, values or tokens
   * @param options `cause`: the error underneath; it may hold a whole Redis command, so it is never logged as it is
   */
  constructor(code: CacheErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'CacheError';
    this.code = code;
  }
}
