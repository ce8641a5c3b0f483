/**
 * Why a call to Redis failed.
 *
 * @upstash/redis puts the whole command, values included, into its messages. So nothing of what it throws is passed on: a
 * RedisFailure has a kind, a fixed message and no cause. Only `reply` holds words of the server, for those who classify
 * them. It is no property of its own, so that no logger prints it: Redis repeats arguments in some of its errors.
 */

export type FailureKind =
  /** No reply within the timeout. */
  | 'timeout'
  /** No connection, or one that broke. */
  | 'unreachable'
  /** The reply is not JSON: a proxy's page, or a reply that was cut off. */
  | 'not-json'
  /** Redis, or Upstash before it, replied with an error. */
  | 'refused'
  /** The reply is not what Redis says to the command. */
  | 'unusable';

const MESSAGES: Readonly<Record<FailureKind, string>> = {
  timeout: 'Redis did not reply in time.',
  unreachable: 'Redis could not be reached.',
  'not-json': 'Redis gave a reply that is not JSON.',
  refused: 'Redis refused a command.',
  unusable: 'Redis gave no usable reply.',
};

export class RedisFailure extends Error {
  readonly kind: FailureKind;
  /** The system's code, such as ECONNREFUSED; empty where there is none. */
  readonly code: string;
  /** The command whose reply is unusable; empty for other kinds. */
  readonly command: string;
  readonly #reply: string;

  constructor(kind: FailureKind, details: { command?: string; reply?: string; code?: string } = {}) {
    super(MESSAGES[kind]);
    this.name = 'RedisFailure';
    this.kind = kind;
    this.code = details.code ?? '';
    this.command = details.command ?? '';
    this.#reply = details.reply ?? '';
  }

  /** The server's own words. They may repeat a key or a value: classify them, never show them. */
  get reply(): string {
    return this.#reply;
  }
}

/** @param error whatever a call of the client threw */
export function failureOf(error: unknown): RedisFailure {
  if (error instanceof RedisFailure) return error;
  if (!(error instanceof Error)) return new RedisFailure('unreachable');
  const { name, message } = error;
  if (name === 'TimeoutError' || name === 'AbortError') return new RedisFailure('timeout');
  if (name === 'UpstashJSONParseError' || name === 'SyntaxError') return new RedisFailure('not-json');
  if (name === 'UpstashError') {
    // The client appends the command to what the server said.
    return new RedisFailure('refused', { reply: message.split(', command was:', 1)[0] ?? '' });
  }
  // The client's words for a reply without a result.
  if (message === 'Request did not return a result') return new RedisFailure('unusable');
  return new RedisFailure('unreachable', { code: systemCode(error) });
}

/** A failure in a few words, for a log line. */
export function describeFailure({ kind, reply, code }: RedisFailure): string {
  if (kind === 'timeout') return 'no answer in time';
  if (kind === 'not-json') return 'an answer that is not JSON';
  if (kind === 'unusable') return 'an unusable reply';
  if (kind === 'unreachable') return code === '' ? 'no connection' : code;
  if (/unauthorized|wrongpass|invalid (auth )?token|noauth/i.test(reply)) return 'the token was refused';
  if (/noperm|readonly|read-only/i.test(reply)) return 'the token may not write';
  if (/max (daily|monthly|requests|concurrent)|rate limit|too many|quota|throttl/i.test(reply))
    return 'throttled';
  if (/oom|maxmemory/i.test(reply)) return 'its memory is full';
  if (/request size|too large|payload/i.test(reply)) return 'a request too large';
  return 'an error';
}

/** The code of the innermost cause that has one; fetch's own messages are the same for everything. */
function systemCode(error: unknown): string {
  for (let depth = 0; error instanceof Error && depth < 5; depth++) {
    if ('code' in error && typeof error.code === 'string' && /^[A-Z_]{3,40}$/.test(error.code))
      return error.code;
    error = error instanceof AggregateError ? error.errors[0] : error.cause;
  }
  return '';
}
