/**
 * Explains failures of the database to a person: one sentence with its remedy, whether the failure came from Postgres, TCP
 * or TLS.
 */
import { placeOf } from '../lib/config.ts';
import { describe, ExitCode, WorkerError } from '../lib/errors.ts';

/** A restart does not mend it: `run` ends at its start with such a failure, and keeps trying after any other. */
export function isPermanent(error: WorkerError): boolean {
  return error.exitCode === ExitCode.configuration || error.exitCode === ExitCode.denied;
}

/**
 * @param error whatever pg threw
 * @param url the connection string; only its host, port and database are repeated
 */
export function explainDatabaseError(error: unknown, url: string): WorkerError {
  if (error instanceof WorkerError) return error;
  const code = errorCode(error);
  const place = placeOf(url);
  const say = (
    kind: WorkerError['code'],
    message: string,
    exitCode: WorkerError['exitCode'] = ExitCode.unavailable,
  ): WorkerError => new WorkerError(kind, message, { exitCode, cause: error });

  switch (code) {
    case '28P01':
    case '28000':
      return say(
        'DATABASE_REFUSED',
        `The database at ${place} refused the user or password of DATABASE_URL: copy the connection string again.`,
        ExitCode.denied,
      );
    case '3D000':
      return say(
        'DATABASE_REFUSED',
        `There is no database of that name at ${place}: correct the last part of DATABASE_URL.`,
        ExitCode.configuration,
      );
    case '3F000':
    case '42P01':
    case '42883':
      return say(
        'DATABASE_NOT_MIGRATED',
        `The database at ${place} lacks Fencepost's migrations: run "npx supabase db push --remote=<DATABASE_URL> --yes" in the repository.`,
        ExitCode.configuration,
      );
    case '42501':
      return say(
        'DATABASE_PRIVILEGE',
        `The user of DATABASE_URL lacks a right that the worker needs (${describe(error)}): run "grant fencepost_worker to <user>" as the schema's owner.`,
        ExitCode.denied,
      );
    case '25006':
      return say(
        'READ_ONLY_DATABASE',
        `The database at ${place} is read-only, as a replica is: point DATABASE_URL at the primary.`,
      );
    case '53300':
      return say(
        'DATABASE_TOO_MANY_CONNECTIONS',
        `The database at ${place} has no connection left: close some, or raise max_connections; the worker itself needs at most 6.`,
      );
    case '55P03':
      return say(
        'DATABASE_LOCKED',
        `A session of the database at ${place} holds a lock on Fencepost's tables, and the worker waited for it in vain: "select pid, query from pg_stat_activity where pid in (select pid from pg_locks where relation::regclass::text like 'cache_invalidation.%')" shows who it may be; end its transaction, or it with pg_terminate_backend(pid).`,
      );
    case '57014':
      return say(
        'DATABASE_SLOW',
        `The database at ${place} took too long for a statement of the worker, which was cancelled: look at its load, and at what pg_stat_activity shows under wait_event.`,
      );
    case '57P01':
    case '57P02':
    case '57P03':
      return say(
        'DATABASE_UNREACHABLE',
        `The database at ${place} is shutting down or starting: waiting for it.`,
      );
    case 'ECONNREFUSED':
      return say(
        'DATABASE_UNREACHABLE',
        `No database answers at ${place}: start it, or correct the host and port of DATABASE_URL.`,
      );
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return say(
        'DATABASE_UNREACHABLE',
        `The host of DATABASE_URL (${place}) has no address: correct it, or check DNS; Supabase's direct host is IPv6 only, its session pooler has IPv4.`,
      );
    default:
      break;
  }
  const text = describe(error);
  if (/timeout|timed out|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH/i.test(`${text} ${code}`)) {
    return say(
      'DATABASE_UNREACHABLE',
      `The database at ${place} does not answer in time: check the network, its firewall and that it is not paused.`,
    );
  }
  if (/SSL|certificate|self.signed/i.test(text)) {
    return say(
      'DATABASE_REFUSED',
      `TLS with the database at ${place} failed (${text}): set sslmode in DATABASE_URL as the server requires.`,
      ExitCode.configuration,
    );
  }
  if (
    /terminated|broke|ECONNRESET|EPIPE|Connection (ended|error)|not queryable|closed/i.test(`${text} ${code}`)
  ) {
    return say('DATABASE_UNREACHABLE', `The connection to the database at ${place} broke: connecting again.`);
  }
  return say(
    'DATABASE_FAILED',
    `The database at ${place} reported: ${text.replace(/\.$/, '')}${code === '' ? '' : ` (${code})`}. If it lasts, look at the database's log and run "npx fencepost doctor".`,
  );
}

/** For a connection whose backend changes. */
export function transactionPoolerError(): WorkerError {
  return new WorkerError(
    'TRANSACTION_POOLER',
    'DATABASE_URL goes through a pooler in transaction mode, where LISTEN and session locks are lost silently: use the direct connection or the session pooler, port 5432.',
    { exitCode: ExitCode.configuration },
  );
}

/** The SQLSTATE or the system's error code, or an empty string. */
export function errorCode(error: unknown): string {
  for (
    let current = error, depth = 0;
    current instanceof Error && depth < 5;
    current = current.cause, depth++
  ) {
    if ('code' in current && typeof current.code === 'string') return current.code;
    if (current instanceof AggregateError && current.errors.length > 0) return errorCode(current.errors[0]);
  }
  return '';
}
