/**
 * Every failure that a person may see is a WorkerError: a stable code, one sentence with its remedy, the exit code that
 * fits, and the original error as its cause. Nothing in a message comes from a cached value, a password or a token.
 *
 * Errors leave the process in three places, which all go through `asWorkerError`: cli.ts prints the message and exits with
 * the exit code, commands/run.ts does the same through the log, and http/server.ts answers 500.
 */

/**
 * Exit codes, with the numbers of BSD's sysexits. A restart does not help after 64 and 78; it may after 69 and 75.
 */
export const ExitCode = {
  /** Done, or asked to stop and stopped cleanly. */
  ok: 0,
  /** The command worked and found a failure: a check (`doctor`, `audit`), requests of `warm`, files that differ (`init`). */
  failed: 1,
  /** The command line cannot be understood. */
  usage: 64,
  /** A service cannot be reached, and this command cannot wait for it. */
  unavailable: 69,
  /** A defect of Fencepost itself. */
  internal: 70,
  /** Not confirmed yet. Nothing is lost: the rows stay in the outbox, or the queue has the target. */
  abandoned: 75,
  /** Credentials or rights are refused. */
  denied: 77,
  /** The environment, or the database that it names, is not set up. */
  configuration: 78,
} as const;

export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

export type ErrorCode =
  | 'CONFIGURATION'
  | 'DATABASE_UNREACHABLE'
  | 'DATABASE_REFUSED'
  | 'DATABASE_TOO_MANY_CONNECTIONS'
  | 'DATABASE_NOT_MIGRATED'
  | 'DATABASE_PRIVILEGE'
  | 'DATABASE_LOCKED'
  | 'DATABASE_SLOW'
  | 'DATABASE_FAILED'
  | 'TRANSACTION_POOLER'
  | 'NOTIFICATIONS_LOST'
  | 'READ_ONLY_DATABASE'
  | 'UPSTASH_UNREACHABLE'
  | 'UPSTASH_TIMEOUT'
  | 'UPSTASH_UNAUTHORIZED'
  | 'UPSTASH_READ_ONLY'
  | 'UPSTASH_THROTTLED'
  | 'UPSTASH_QUOTA'
  | 'UPSTASH_TOO_LARGE'
  | 'UPSTASH_SERVER_ERROR'
  | 'UPSTASH_REFUSED'
  | 'UPSTASH_BAD_ANSWER'
  | 'STANDBY_REDIS_DIFFERS'
  | 'INVALID_TARGET'
  | 'INVALID_STATEMENT'
  | 'WATCH_REFUSED'
  | 'NO_PROJECT'
  | 'NO_STACK'
  | 'PROJECT_FILES'
  | 'FILES_DIFFER'
  | 'INVALID_TEMPLATE'
  | 'ROWS_REFUSED'
  | 'WARMING_FAILED'
  | 'SESSION_LOST'
  | 'QUEUE_UNAVAILABLE'
  | 'STOPPED'
  | 'INTERNAL';

export class WorkerError extends Error {
  readonly code: ErrorCode;
  readonly exitCode: ExitCode;

  /**
   * @param code stable, for programs
   * @param message one sentence with its remedy, for people
   */
  constructor(code: ErrorCode, message: string, options: { exitCode?: ExitCode; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'WorkerError';
    this.code = code;
    this.exitCode = options.exitCode ?? ExitCode.internal;
  }
}

/** The text of anything thrown, for a log line: never a stack, never more than one line, at most 300 characters. */
export function describe(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error);
  const line = text.split('\n', 1)[0] ?? '';
  return line.length > 300 ? `${line.slice(0, 297)}...` : line;
}

/** Makes a WorkerError of anything thrown; what is not one already is a defect and says so. */
export function asWorkerError(error: unknown): WorkerError {
  if (error instanceof WorkerError) return error;
  return new WorkerError('INTERNAL', `Unexpected failure in the worker: ${describe(error)}.`, {
    cause: error,
  });
}
