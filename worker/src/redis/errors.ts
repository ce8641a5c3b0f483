/**
 * What the worker makes of a failure of Redis: a code, a sentence with its remedy, and how the invalidation goes on. The server's
 * own words decide, and are never repeated: they may hold a key (cache/redis/failure.ts).
 */
import { failureOf } from '../../../supabase/functions/_shared/cache/redis/failure.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';

/** How an invalidation goes on after a failure. */
export type Course =
  /** Redis is away or asks for time: apply the same batch again later. Nothing is lost, the rows stay. */
  | 'wait'
  /** Redis refuses this command: find the target that causes it and set it aside. */
  | 'bisect';

export class UpstashFailure extends WorkerError {
  readonly course: Course;

  constructor(
    code: WorkerError['code'],
    message: string,
    course: Course,
    exitCode: ExitCode = ExitCode.unavailable,
  ) {
    super(code, message, { exitCode });
    this.name = 'UpstashFailure';
    this.course = course;
  }
}

/** @param error whatever a call to Redis rejected with */
export function classify(error: unknown): UpstashFailure {
  if (error instanceof UpstashFailure) return error;
  const { kind, command, reply, code } = failureOf(error);
  switch (kind) {
    case 'refused':
      return classifyReply(reply);
    case 'unusable':
      return new UpstashFailure(
        'UPSTASH_BAD_ANSWER',
        `The server at UPSTASH_REDIS_REST_URL answered ${command || 'a command'} in a way that Redis does not: check the address; trying again.`,
        'wait',
      );
    case 'not-json':
      return new UpstashFailure(
        'UPSTASH_SERVER_ERROR',
        'The address in UPSTASH_REDIS_REST_URL answered with something that is not Upstash JSON, as a proxy or a failing server does: check the address and status.upstash.com; trying again.',
        'wait',
      );
    case 'timeout':
      return new UpstashFailure(
        'UPSTASH_TIMEOUT',
        'Upstash does not answer in time: check the network and status.upstash.com; trying again.',
        'wait',
      );
    case 'unreachable':
      return new UpstashFailure('UPSTASH_UNREACHABLE', unreachable(code), 'wait');
  }
}

function unreachable(code: string): string {
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return 'The host in UPSTASH_REDIS_REST_URL has no address: correct it, or check DNS; trying again.';
  return `Nothing answers at UPSTASH_REDIS_REST_URL${code === '' ? '' : ` (${code})`}: check the address, the network and that the database exists; trying again.`;
}

function classifyReply(reply: string): UpstashFailure {
  // Without a right to some keys, only the targets that name them are concerned.
  if (/NOPERM.*key/i.test(reply)) {
    return new UpstashFailure(
      'UPSTASH_REFUSED',
      'UPSTASH_REDIS_REST_TOKEN has no right to some keys: widen its ACL in the Upstash console.',
      'bisect',
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
      'bisect',
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
      'bisect',
    );
  }
  return new UpstashFailure(
    'UPSTASH_SERVER_ERROR',
    'Upstash reported an error that is not known here: trying again.',
    'wait',
  );
}
