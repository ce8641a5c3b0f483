/**
 * Why a call to Redis failed, recognised once for the cache and the worker.
 *
 * @upstash/redis puts the whole command, values included, into its messages, and Redis repeats arguments in some of its errors.
 * So no text of either leaves this file: a RedisFailure has a kind, a description of ours, and no cause.
 */

/** Each kind with its description, for log lines. */
const KINDS = {
  timeout: 'no answer in time',
  /** No connection, or one that broke. */
  unreachable: 'no connection',
  /** A proxy's page, or a reply that was cut off. */
  'not-json': 'an answer that is not JSON',
  /** Not what Redis replies to the command. */
  unusable: 'an unusable reply',

  // Redis, or Upstash before it, replied with an error.
  unauthorized: 'the token was refused',
  /** The server at the address sends its Redis no password, and Redis wants one. */
  'no-password': 'Redis wants a password',
  'no-right': 'the token has no right to a command',
  'forbidden-key': 'the token has no right to a key',
  'too-large': 'a request too large',
  'quota-used-up': 'throttled: the quota of requests is used up',
  throttled: 'throttled',
  'memory-full': 'its memory is full',
  /** After a start, until its data is in memory. */
  loading: 'it is loading its data',
  /** Redis takes no writes because it cannot keep them: a full disk, too few replicas. */
  'cannot-save': 'it cannot save its writes',
  /** A replica, as during a failover. */
  replica: 'a replica, which takes no writes',
  /** Why is told only to the single commands of the transaction. */
  'transaction-discarded': 'a transaction was discarded',
  'unknown-command': 'a command that it does not know',
  /** Something else is stored under the key. */
  'wrong-type': 'a key of another type',
  unavailable: 'an error of the server',
  /** The command itself is wrong, for these keys at least. */
  rejected: 'an error',
  unknown: 'an error',
} as const;

export type FailureKind = keyof typeof KINDS;

/** How the server's words tell the kind; the first that matches counts. */
const REPLIES: readonly (readonly [RegExp, FailureKind])[] = [
  [/NOPERM.*key/i, 'forbidden-key'],
  [/^READONLY/i, 'replica'],
  [/NOPERM|read.?only/i, 'no-right'],
  [/^NOAUTH/i, 'no-password'],
  [/^EXECABORT/i, 'transaction-discarded'],
  [/^MISCONF|^NOREPLICAS/i, 'cannot-save'],
  [/^WRONGTYPE/i, 'wrong-type'],
  [/unknown (sub)?command/i, 'unknown-command'],
  [/max number of clients/i, 'unavailable'],
  [/WRONGPASS|unauthorized|invalid (auth )?token/i, 'unauthorized'],
  [/too large|max [a-z ]*size|payload/i, 'too-large'],
  // Upstash's word for a full database. Its other limits count requests.
  [/^OOM|maxmemory|capacity quota/i, 'memory-full'],
  [/^LOADING|loading the dataset/i, 'loading'],
  [/max (daily )?requests? limit|quota|max requests|monthly/i, 'quota-used-up'],
  [/too many requests|max concurrent|rate limit|throttl|LIMIT/i, 'throttled'],
  [/MASTERDOWN|CLUSTERDOWN|BUSY|TRYAGAIN|internal|unavailable|bad gateway/i, 'unavailable'],
  [/timeout|EAGAIN|UNKNOWN/i, 'unavailable'],
  [/^ERR|^MOVED|syntax/i, 'rejected'],
];

export class RedisFailure extends Error {
  readonly kind: FailureKind;
  /**
   * Of `unreachable` the system's code, such as ECONNREFUSED; of `unusable` the command; of `unknown` the word in capitals
   * that Redis's errors begin with; otherwise empty.
   */
  readonly detail: string;
  /** The server replied with an error: the failure may concern this command alone. */
  readonly isReply: boolean;

  constructor(kind: FailureKind, { detail = '', isReply = false } = {}) {
    super(kind === 'unreachable' && detail !== '' ? detail : KINDS[kind]);
    this.name = 'RedisFailure';
    this.kind = kind;
    this.detail = detail;
    this.isReply = isReply;
  }
}

/** @param error whatever a call of the client threw */
export function failureOf(error: unknown): RedisFailure {
  if (error instanceof RedisFailure) return error;
  if (!(error instanceof Error)) return new RedisFailure('unreachable');
  const { name, message } = error;
  if (name === 'TimeoutError' || name === 'AbortError') return new RedisFailure('timeout');
  if (name === 'UpstashJSONParseError' || name === 'SyntaxError') return new RedisFailure('not-json');
  // The client appends the command to what the server said.
  if (name === 'UpstashError') return refusalOf(message.split(', command was:', 1)[0] ?? '');
  // The client's words for a reply without a result; and over a reply that is null it stumbles.
  if (
    message === 'Request did not return a result' ||
    (error instanceof TypeError && /\bnull\b/.test(message))
  )
    return new RedisFailure('unusable');
  return new RedisFailure('unreachable', { detail: systemCode(error) });
}

/** @param words the server's error message */
export function refusalOf(words: string): RedisFailure {
  const [, kind] = REPLIES.find(([pattern]) => pattern.test(words)) ?? [null, 'unknown' as const];
  const detail = kind === 'unknown' ? (/^[A-Z]{3,20}\b/.exec(words)?.[0] ?? '') : '';
  return new RedisFailure(kind, { detail, isReply: true });
}

/** The code of the outermost error that has one; fetch's own messages are the same for every failure. */
function systemCode(error: unknown): string {
  for (let depth = 0; error instanceof Error && depth < 5; depth++) {
    if ('code' in error && typeof error.code === 'string' && /^[A-Z_]{3,40}$/.test(error.code))
      return error.code;
    error = error instanceof AggregateError ? error.errors[0] : error.cause;
  }
  return '';
}
