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

const REFUSES =
  'The server at UPSTASH_REDIS_REST_URL refuses a command, as a proxy does whose Redis is away: check the address and that its Redis is up.';

type Meaning = readonly [
  code: WorkerError['code'],
  message: string | ((failure: RedisFailure) => string),
  course?: Course,
  exitCode?: ExitCode,
];

const MEANINGS: Readonly<Record<FailureKind, Meaning>> = {
  timeout: ['UPSTASH_TIMEOUT', 'Upstash does not answer in time: check the network and status.upstash.com.'],
  unreachable: ['UPSTASH_UNREACHABLE', unreachable],
  'not-json': [
    'UPSTASH_SERVER_ERROR',
    'The address in UPSTASH_REDIS_REST_URL answered with something that is not Upstash JSON, as a proxy or a failing server does: check the address and status.upstash.com.',
  ],
  unusable: [
    'UPSTASH_BAD_ANSWER',
    ({ detail }) =>
      `The server at UPSTASH_REDIS_REST_URL answered ${detail || 'a command'} in a way that Redis does not: check the address.`,
  ],
  unauthorized: [
    'UPSTASH_UNAUTHORIZED',
    'Upstash refused UPSTASH_REDIS_REST_TOKEN: copy the token that belongs to UPSTASH_REDIS_REST_URL from the Upstash console.',
    'wait',
    ExitCode.denied,
  ],
  'no-password': [
    'UPSTASH_UNAUTHORIZED',
    "The server at UPSTASH_REDIS_REST_URL has no password for its Redis, which wants one: set it in that server's own configuration, not in the worker's.",
    'wait',
    ExitCode.denied,
  ],
  'no-right': [
    'UPSTASH_READ_ONLY',
    'UPSTASH_REDIS_REST_TOKEN has no right to a command of the worker, as the read-only token has none to write: use the standard token of the Upstash console; "fencepost doctor" names the commands.',
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
    "The Upstash database's request quota is used up: raise its plan or budget in the Upstash console.",
  ],
  throttled: ['UPSTASH_THROTTLED', 'Upstash asks for fewer requests: slowing down.'],
  'memory-full': [
    'UPSTASH_SERVER_ERROR',
    "Redis's memory is full, and it refuses to write: raise its limit, or let it evict keys.",
  ],
  loading: [
    'UPSTASH_SERVER_ERROR',
    'Redis is loading its data, as after a restart, and serves nobody until it has: waiting.',
  ],
  'cannot-save': [
    'UPSTASH_SERVER_ERROR',
    'Redis refuses to write because it cannot save what is written, as with a full disk or without its replicas: look at its log.',
  ],
  replica: [
    'UPSTASH_SERVER_ERROR',
    'The Redis at UPSTASH_REDIS_REST_URL is a replica, which takes no writes, as during a failover: if it lasts, use the address of the primary.',
  ],
  'transaction-discarded': [
    'UPSTASH_SERVER_ERROR',
    'Redis discarded a transaction, as it does when it may not or cannot write: "fencepost doctor" tries each command and says why.',
  ],
  unavailable: ['UPSTASH_SERVER_ERROR', 'Upstash cannot serve right now.'],
  'unknown-command': [
    'UPSTASH_BAD_ANSWER',
    'The server at UPSTASH_REDIS_REST_URL does not know a command of the worker: it must be Redis 6.2 or newer, with no command renamed; "fencepost doctor" names the commands.',
    'wait',
    ExitCode.configuration,
  ],
  'wrong-type': [
    'UPSTASH_REFUSED',
    'Redis holds something else under a key of Fencepost: give it a CACHE_PREFIX that nothing else uses.',
    'bisect',
  ],
  rejected: ['UPSTASH_SERVER_ERROR', REFUSES, 'bisect'],
  unknown: [
    'UPSTASH_SERVER_ERROR',
    ({ detail }) =>
      `The server at UPSTASH_REDIS_REST_URL reported an error that is not known here${detail === '' ? '' : ` (${detail})`}: check that the address is Upstash's.`,
  ],
};

/** A server that refuses even to delete a key that never exists. Waiting mends it: a proxy's Redis comes back. */
export function refusesAll(): UpstashFailure {
  return new UpstashFailure(
    'UPSTASH_SERVER_ERROR',
    'The server at UPSTASH_REDIS_REST_URL refuses every command: check that its Redis is up and that the token may write.',
    'wait',
  );
}

/** The refusal of one target by a server that deletes other keys. Nothing else may be called refused, or a dead letter. */
export function refusalOfTarget(refusal: UpstashFailure): UpstashFailure {
  // An ACL says more than this.
  if (refusal.exitCode === ExitCode.denied) return refusal;
  return new UpstashFailure(
    'UPSTASH_REFUSED',
    'Redis refuses to delete the keys of a target: it is tried again apart from the others and kept as a dead letter; `fencepost status` shows it, `fencepost retry` puts it back to work.',
    'bisect',
  );
}

function unreachable({ detail }: RedisFailure): string {
  if (detail === 'ENOTFOUND' || detail === 'EAI_AGAIN')
    return 'The host in UPSTASH_REDIS_REST_URL has no address: correct it, or check DNS.';
  if (/CERT|SSL|TLS|EPROTO|VERIFY/.test(detail))
    return `TLS with the server at UPSTASH_REDIS_REST_URL failed (${detail}): check the address, its certificate, and NODE_EXTRA_CA_CERTS.`;
  if (/^(ECONNRESET|EPIPE|UND_ERR_SOCKET)$/.test(detail))
    return `The connection to UPSTASH_REDIS_REST_URL broke (${detail}).`;
  return `Nothing answers at UPSTASH_REDIS_REST_URL${detail === '' ? '' : ` (${detail})`}: check the address, the network and that the database exists.`;
}
