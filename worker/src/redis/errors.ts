/**
 * What Upstash (or the network before it) answered, said without repeating it: @upstash/redis puts the whole command,
 * values included, into its messages, so these are classified here and never passed on.
 */
import { errorCode } from '../db/errors.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';

/** How an invalidation goes on after this answer. */
export type Course =
  /** The service is away or asks for patience: the same batch again, later. Nothing is lost, the rows stay. */
  | 'wait'
  /** This command itself is refused: find the target that causes it and set it aside. */
  | 'isolate';

export class UpstashFailure extends WorkerError {
  readonly course: Course;

  constructor(
    code: WorkerError['code'],
    message: string,
    course: Course,
    exitCode: ExitCode = ExitCode.unavailable,
  ) {
    // No cause: it would carry the command into whatever prints the error.
    super(code, message, { exitCode });
    this.name = 'UpstashFailure';
    this.course = course;
  }
}

/** @param error whatever the client threw */
export function classify(error: unknown): UpstashFailure {
  if (error instanceof UpstashFailure) return error;
  const name = error instanceof Error ? error.name : '';
  // The client's words for an answer without a result.
  if (error instanceof TypeError && error.message === 'Request did not return a result')
    return badAnswer('a command');
  if (name === 'UpstashJSONParseError' || error instanceof SyntaxError) {
    return new UpstashFailure(
      'UPSTASH_SERVER_ERROR',
      'The address in UPSTASH_REDIS_REST_URL answered with something that is not Upstash JSON, as a proxy or a failing server does: check the address and status.upstash.com; trying again.',
      'wait',
    );
  }
  if (name === 'UpstashError') return classifyReply(replyOf(error));
  if (name === 'TimeoutError' || name === 'AbortError') {
    return new UpstashFailure(
      'UPSTASH_TIMEOUT',
      'Upstash does not answer in time: check the network and status.upstash.com; trying again.',
      'wait',
    );
  }
  const code = errorCode(error);
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return new UpstashFailure(
      'UPSTASH_UNREACHABLE',
      'The host in UPSTASH_REDIS_REST_URL has no address: correct it, or check DNS; trying again.',
      'wait',
    );
  }
  return new UpstashFailure(
    'UPSTASH_UNREACHABLE',
    `Nothing answers at UPSTASH_REDIS_REST_URL${code === '' ? '' : ` (${code})`}: check the address, the network and that the database exists; trying again.`,
    'wait',
  );
}

/** A success that is none: not what Redis answers to this command. */
export function badAnswer(command: string): UpstashFailure {
  return new UpstashFailure(
    'UPSTASH_BAD_ANSWER',
    `The server at UPSTASH_REDIS_REST_URL answered ${command} in a way that Redis does not: check the address; trying again.`,
    'wait',
  );
}

/** The server's own words, without the command that the client appends. */
function replyOf(error: unknown): string {
  const message = error instanceof Error ? error.message : '';
  const end = message.indexOf(', command was:');
  return end === -1 ? message : message.slice(0, end);
}

function classifyReply(reply: string): UpstashFailure {
  // A right that lacks for some keys only concerns the targets that name them.
  if (/NOPERM.*key/i.test(reply)) {
    return new UpstashFailure(
      'UPSTASH_REFUSED',
      'UPSTASH_REDIS_REST_TOKEN has no right to some keys: widen its ACL in the Upstash console.',
      'isolate',
      ExitCode.denied,
    );
  }
  if (/NOPERM|read.?only/i.test(reply)) {
    return new UpstashFailure(
      'UPSTASH_READ_ONLY',
      'UPSTASH_REDIS_REST_TOKEN may not write: use the standard token of the Upstash console, not the read-only one.',
      'wait',
      ExitCode.denied,
    );
  }
  if (/WRONGPASS|unauthorized|invalid token|NOAUTH/i.test(reply)) {
    return new UpstashFailure(
      'UPSTASH_UNAUTHORIZED',
      'Upstash refused UPSTASH_REDIS_REST_TOKEN: copy the token that belongs to UPSTASH_REDIS_REST_URL from the Upstash console.',
      'wait',
      ExitCode.denied,
    );
  }
  if (/max request size|too large|request size/i.test(reply)) {
    return new UpstashFailure(
      'UPSTASH_TOO_LARGE',
      'One request was larger than Upstash accepts: splitting it.',
      'isolate',
    );
  }
  if (/max (daily )?requests? limit|quota|max requests|monthly/i.test(reply)) {
    return new UpstashFailure(
      'UPSTASH_QUOTA',
      "The Upstash database's request quota is used up: raise its plan or budget in the Upstash console; trying again.",
      'wait',
    );
  }
  if (/too many requests|rate limit|throttl|LIMIT/i.test(reply)) {
    return new UpstashFailure('UPSTASH_THROTTLED', 'Upstash asks for fewer requests: slowing down.', 'wait');
  }
  if (
    /OOM|LOADING|MASTERDOWN|CLUSTERDOWN|BUSY|TRYAGAIN|internal|unavailable|bad gateway|timeout|EAGAIN|UNKNOWN/i.test(
      reply,
    )
  ) {
    return new UpstashFailure(
      'UPSTASH_SERVER_ERROR',
      'Upstash cannot serve right now: trying again.',
      'wait',
    );
  }
  if (/^ERR|^WRONGTYPE|^MOVED|syntax/i.test(reply)) {
    return new UpstashFailure(
      'UPSTASH_REFUSED',
      'Redis refuses to delete the keys of a target: it is tried again apart from the others and kept as a dead letter; `fencepost status` shows it, `fencepost retry` puts it back to work.',
      'isolate',
    );
  }
  return new UpstashFailure(
    'UPSTASH_SERVER_ERROR',
    'Upstash reported an error that is not known here: trying again.',
    'wait',
  );
}
