/**
 * What each failure of the queue means: always QUEUE_UNAVAILABLE, since it holds up nothing else, and a sentence that says what
 * failed and what to do. What the database and Redis mean by an error is said in db/errors.ts and cache/redis/failure.ts.
 */
import { SchemaMigrationRequiredError, SchemaVersionMismatchError } from 'bullmq';
import { type FailureKind, refusalOf } from '../../../supabase/functions/_shared/cache/redis/failure.ts';
import { errorCode, explainDatabaseError } from '../db/errors.ts';
import { QUEUE_SCHEMA, WORKER_ROLE } from '../db/names.ts';
import { describe, ExitCode, WorkerError } from '../lib/errors.ts';
import { DeadlineError } from '../lib/waiting.ts';

/** @param error whatever BullMQ, its client or a deadline threw */
export type ExplainQueueError = (error: unknown) => WorkerError;

function unavailable(
  message: string,
  cause: unknown,
  exitCode: ExitCode = ExitCode.unavailable,
): WorkerError {
  return new WorkerError('QUEUE_UNAVAILABLE', message, { exitCode, cause });
}

/** @param url of the database that holds the queue's tables */
export function explainPostgresQueue(error: unknown, url: string): WorkerError {
  if (error instanceof WorkerError && error.code === 'QUEUE_UNAVAILABLE') return error;
  if (error instanceof SchemaMigrationRequiredError)
    return unavailable(
      'The queue’s tables are not installed yet: the worker that leads installs them when it starts, if it may; "npx fencepost doctor" says whether it may.',
      error,
    );
  if (error instanceof SchemaVersionMismatchError)
    return unavailable('The queue’s tables were installed by a newer worker: upgrade this one.', error);
  if (error instanceof DeadlineError)
    return unavailable(
      'The queue in the database does not answer in time: look at the database’s load and locks, and run "npx fencepost doctor".',
      error,
    );
  switch (errorCode(error)) {
    case '42501':
      return unavailable(
        `The user of DATABASE_URL lacks a right to the queue’s tables (${describe(error)}): let their owner run "grant ${WORKER_ROLE} to <user>"; "npx fencepost doctor" names what is missing.`,
        error,
        ExitCode.denied,
      );
    case '3F000':
    case '42P01':
    case '42883':
    case '42704':
      return unavailable(
        `The schema ${QUEUE_SCHEMA}, its tables or the role ${WORKER_ROLE} are missing: apply all migrations with "npx supabase db push --remote=<DATABASE_URL> --yes".`,
        error,
        ExitCode.configuration,
      );
    default: {
      const { message, exitCode } = explainDatabaseError(error, url);
      return unavailable(`The queue in the database cannot be used: ${message}`, error, exitCode);
    }
  }
}

/** What Redis itself said, where it is worth more than that it refused. */
const REFUSALS: Partial<Record<FailureKind, string>> = {
  unauthorized: 'refused the user or password: correct QUEUE_REDIS_URL',
  'no-password': 'wants a password: put it into QUEUE_REDIS_URL',
  'no-right': 'gives the user of QUEUE_REDIS_URL no right to a command that BullMQ needs: widen its ACL',
  'forbidden-key': 'gives the user of QUEUE_REDIS_URL no right to BullMQ’s keys: widen its ACL',
  replica: 'is a replica, which takes no writes: point QUEUE_REDIS_URL at the primary',
  'memory-full': 'has no memory left: raise its limit',
  loading: 'is loading its data, as after a restart: wait until it has',
  'cannot-save': 'cannot save what is written: look at its log',
  'unknown-command': 'does not know a command that BullMQ needs: it must be Redis 6.2 or newer',
  unavailable: 'cannot serve now, as while it starts',
};

const DENIED: ReadonlySet<FailureKind> = new Set([
  'unauthorized',
  'no-password',
  'no-right',
  'forbidden-key',
]);

/** A Redis's error begins with a word in capitals; its further text may repeat keys, and is not shown. */
const REPLY = /^[A-Z]{3,}\b/;

export function explainRedisQueue(error: unknown): WorkerError {
  if (error instanceof WorkerError && error.code === 'QUEUE_UNAVAILABLE') return error;
  const say = (what: string, exitCode?: ExitCode) =>
    unavailable(`The Redis of QUEUE_REDIS_URL ${what}.`, error, exitCode);
  if (error instanceof DeadlineError) return say('does not answer in time: check the network and its load');
  const code = errorCode(error);
  const text = describe(error);
  if (code === '' && REPLY.test(text)) {
    const { kind } = refusalOf(text);
    const what = REFUSALS[kind] ?? `refused a command (${REPLY.exec(text)?.[0]}): look at its log`;
    return say(what, DENIED.has(kind) ? ExitCode.denied : undefined);
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN')
    return say('has no address: correct QUEUE_REDIS_URL, or check DNS');
  if (/CERT|SSL|TLS|EPROTO|VERIFY/.test(code))
    return say(`could not be reached over TLS (${code}): check the address and its certificate`);
  return say(`cannot be reached (${code === '' ? text : code}): check the address and that it is up`);
}
