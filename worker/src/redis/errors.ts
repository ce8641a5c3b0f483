/**
 * What each kind of failure of Redis means for the worker: a code, a sentence with its remedy, and how the invalidation goes on.
 * cache/redis/failure.ts recognises the kind.
 */
import {
  type FailureKind,
  failureOf,
  type RedisFailure,
} from '../../../supabase/functions/_shared/cache/redis/failure.ts';
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
  const failure = failureOf(error);
  const [code, message, course = 'wait', exitCode] = MEANINGS[failure.kind];
  const text = typeof message === 'string' ? message : message(failure);
  return new UpstashFailure(code, text, course, exitCode);
}

type Meaning = readonly [
  code: WorkerError['code'],
  message: string | ((failure: RedisFailure) => string),
  course?: Course,
  exitCode?: ExitCode,
];

const UNAVAILABLE: Meaning = ['UPSTASH_SERVER_ERROR', 'Upstash cannot serve right now: trying again.'];

const MEANINGS: Readonly<Record<FailureKind, Meaning>> = {
  timeout: [
    'UPSTASH_TIMEOUT',
    'Upstash does not answer in time: check the network and status.upstash.com; trying again.',
  ],
  unreachable: ['UPSTASH_UNREACHABLE', unreachable],
  'not-json': [
    'UPSTASH_SERVER_ERROR',
    'The address in UPSTASH_REDIS_REST_URL answered with something that is not Upstash JSON, as a proxy or a failing server does: check the address and status.upstash.com; trying again.',
  ],
  unusable: [
    'UPSTASH_BAD_ANSWER',
    ({ detail }) =>
      `The server at UPSTASH_REDIS_REST_URL answered ${detail || 'a command'} in a way that Redis does not: check the address; trying again.`,
  ],
  unauthorized: [
    'UPSTASH_UNAUTHORIZED',
    'Upstash refused UPSTASH_REDIS_REST_TOKEN: copy the token that belongs to UPSTASH_REDIS_REST_URL from the Upstash console.',
    'wait',
    ExitCode.denied,
  ],
  'read-only': [
    'UPSTASH_READ_ONLY',
    'UPSTASH_REDIS_REST_TOKEN may not write: use the standard token of the Upstash console, not the read-only one.',
    'wait',
    ExitCode.denied,
  ],
  // Only the targets that name such keys are concerned.
  'forbidden-key': [
    'UPSTASH_REFUSED',
    'UPSTASH_REDIS_REST_TOKEN has no right to some keys: widen its ACL in the Upstash console.',
    'bisect',
    ExitCode.denied,
  ],
  'too-large': ['UPSTASH_TOO_LARGE', 'One request was larger than Upstash accepts: splitting it.', 'bisect'],
  'quota-used-up': [
    'UPSTASH_QUOTA',
    "The Upstash database's request quota is used up: raise its plan or budget in the Upstash console; trying again.",
  ],
  throttled: ['UPSTASH_THROTTLED', 'Upstash asks for fewer requests: slowing down.'],
  'memory-full': UNAVAILABLE,
  unavailable: UNAVAILABLE,
  rejected: [
    'UPSTASH_REFUSED',
    'Redis refuses to delete the keys of a target: it is tried again apart from the others and kept as a dead letter; `fencepost status` shows it, `fencepost retry` puts it back to work.',
    'bisect',
  ],
  unknown: ['UPSTASH_SERVER_ERROR', 'Upstash reported an error that is not known here: trying again.'],
};

function unreachable({ detail }: RedisFailure): string {
  if (detail === 'ENOTFOUND' || detail === 'EAI_AGAIN')
    return 'The host in UPSTASH_REDIS_REST_URL has no address: correct it, or check DNS; trying again.';
  return `Nothing answers at UPSTASH_REDIS_REST_URL${detail === '' ? '' : ` (${detail})`}: check the address, the network and that the database exists; trying again.`;
}
