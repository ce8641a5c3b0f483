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
  const failure: Failure = {
    code: errorCode(error),
    text: describe(error).replace(/\.$/, ''),
    routine: routineOf(error),
    place: placeOf(url),
  };
  const [code, message, exitCode = ExitCode.unavailable] = SQLSTATE.test(failure.code)
    ? serverMeaning(failure)
    : connectionMeaning(failure);
  return new WorkerError(code, message, { exitCode, cause: error });
}

interface Failure {
  /** The SQLSTATE or the system's code, or an empty string. */
  readonly code: string;
  readonly text: string;
  /** The function of Postgres that reported it. Its name is the same in every language; the text is not. */
  readonly routine: string;
  readonly place: string;
}

type Meaning = readonly [code: WorkerError['code'], message: string, exitCode?: ExitCode];

/** Five characters with a digit; EPIPE is none. */
const SQLSTATE = /^(?=.*\d)[0-9A-Z]{5}$/;

/** What Postgres, or a pooler before it, said itself. Its words are looked at only where the SQLSTATE says too little. */
function serverMeaning({ code, text, routine, place }: Failure): Meaning {
  const pooled = poolerMeaning(text, place);
  if (pooled !== null) return pooled;
  switch (code) {
    case '28P01':
    case '28000':
      if (routine === 'ClientAuthentication') {
        return [
          'DATABASE_REFUSED',
          `The database at ${place} lets nobody in from this address under this user (${text}): set sslmode=require in DATABASE_URL, or let pg_hba.conf allow it.`,
          ExitCode.denied,
        ];
      }
      return [
        'DATABASE_REFUSED',
        `The database at ${place} refused the user or password of DATABASE_URL: copy the connection string again.`,
        ExitCode.denied,
      ];
    case '3D000':
      return [
        'DATABASE_REFUSED',
        `There is no database of that name at ${place}: correct the last part of DATABASE_URL.`,
        ExitCode.configuration,
      ];
    case '3F000':
    case '42P01':
    case '42703':
    case '42883':
      return [
        'DATABASE_NOT_MIGRATED',
        `The database at ${place} lacks Fencepost's migrations: run "npx supabase db push --remote=<DATABASE_URL> --yes" in the repository.`,
        ExitCode.configuration,
      ];
    case '42501':
      return [
        'DATABASE_PRIVILEGE',
        `The user of DATABASE_URL lacks a right that the worker needs (${text}): run "grant fencepost_worker to <user>" as the schema's owner.`,
        ExitCode.denied,
      ];
    case '25006':
      return [
        'READ_ONLY_DATABASE',
        `The database at ${place} takes no writes now: default_transaction_read_only is on, as Supabase sets it when the disk is full, or it is a standby; "npx fencepost doctor" says which.`,
      ];
    case '53300':
      return ['DATABASE_TOO_MANY_CONNECTIONS', tooManyConnections(routine, place)];
    case '55P03':
      return [
        'DATABASE_LOCKED',
        `A session of the database at ${place} holds a lock on Fencepost's tables, and the worker waited for it in vain: "select pid, query from pg_stat_activity where pid in (select pid from pg_locks where relation::regclass::text like 'cache_invalidation%')" shows who it may be; end its transaction, or it with pg_terminate_backend(pid).`,
      ];
    case '57014':
      // An administrator's pg_cancel_backend says nothing about the load.
      if (/user request/.test(text)) break;
      return [
        'DATABASE_SLOW',
        `The database at ${place} took too long for a statement of the worker, which was cancelled: look at its load, and at what pg_stat_activity shows under wait_event.`,
      ];
    case '57P01':
    case '57P02':
      return [
        'DATABASE_UNREACHABLE',
        `The database at ${place} ended a session of the worker, as an administrator or a shutdown does.`,
      ];
    case '57P03':
      return ['DATABASE_UNREACHABLE', `The database at ${place} is starting, recovering or shutting down.`];
    case '57P05':
      return [
        'DATABASE_UNREACHABLE',
        `The database at ${place} ended a session of the worker for being idle (idle_session_timeout).`,
      ];
    default:
      break;
  }
  if (code.startsWith('08')) {
    return ['DATABASE_UNREACHABLE', `The server at ${place} has no connection to the database (${text}).`];
  }
  return [
    'DATABASE_FAILED',
    `The database at ${place} reported: ${text} (${code}). If it lasts, look at the database's log and run "npx fencepost doctor".`,
  ];
}

/** Poolers have no SQLSTATEs of their own: Supabase's says XX000 to everything, PgBouncer 08P01. */
function poolerMeaning(text: string, place: string): Meaning | null {
  if (/max_client_conn|max clients reached|max client connections/i.test(text)) {
    return [
      'DATABASE_TOO_MANY_CONNECTIONS',
      `The pooler at ${place} takes no more clients: close some, or raise its pool size; the worker itself needs at most 6.`,
    ];
  }
  // It says the same of a project that is paused, which waiting may mend.
  if (/tenant.{1,4}user.* not found/i.test(text)) {
    return [
      'DATABASE_REFUSED',
      `The pooler at ${place} knows no such project and user, or the project is paused: resume it, or copy the session pooler's connection string again.`,
    ];
  }
  if (/ECIRCUITBREAKER/.test(text)) {
    return [
      'DATABASE_REFUSED',
      `The pooler at ${place} takes no connection for some minutes, because too many came with a wrong password: correct it wherever it is wrong.`,
    ];
  }
  if (/db_termination|DbHandler exited/i.test(text))
    return ['DATABASE_UNREACHABLE', `The pooler at ${place} has lost the database's side of a session.`];
  return null;
}

/** What the client found: no server said anything. */
function connectionMeaning({ code, text, place }: Failure): Meaning {
  const words = `${text} ${code}`;
  if (code === 'ECONNREFUSED') {
    return [
      'DATABASE_UNREACHABLE',
      `No database answers at ${place}: start it, or correct the host and port of DATABASE_URL.`,
    ];
  }
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') {
    return [
      'DATABASE_UNREACHABLE',
      `The host of DATABASE_URL (${place}) has no address: correct it, or check DNS; Supabase's direct host is IPv6 only, its session pooler has IPv4.`,
    ];
  }
  if (code === 'EHOSTUNREACH' || code === 'ENETUNREACH') {
    return [
      'DATABASE_UNREACHABLE',
      `No network leads to the database at ${place}: check this machine's; Supabase's direct host is IPv6 only, its session pooler has IPv4.`,
    ];
  }
  // The pool's own words, also while both connections wait for a lock.
  if (text === 'timeout exceeded when trying to connect') {
    return [
      'DATABASE_SLOW',
      `No connection of the worker to the database at ${place} became free within 5 s, because earlier statements still wait for their answers: look at what pg_stat_activity shows of them under wait_event.`,
    ];
  }
  if (/timeout|timed out|ETIMEDOUT/i.test(words)) {
    return [
      'DATABASE_UNREACHABLE',
      `The database at ${place} does not answer in time: check the network, its firewall and that it is not paused.`,
    ];
  }
  if (/client password must be/.test(text)) {
    return [
      'DATABASE_REFUSED',
      `The database at ${place} wants a password, and DATABASE_URL has none: copy the connection string again.`,
      ExitCode.denied,
    ];
  }
  if (/SSL|certificate|self.signed/i.test(words)) {
    return [
      'DATABASE_REFUSED',
      `TLS with the database at ${place} failed (${text}): set sslmode in DATABASE_URL as the server requires.`,
      ExitCode.configuration,
    ];
  }
  if (
    /terminated|broke|ECONNRESET|EPIPE|Connection (ended|error)|connection error|not queryable|closed/i.test(
      words,
    )
  )
    return ['DATABASE_UNREACHABLE', `The connection to the database at ${place} broke.`];
  return [
    'DATABASE_FAILED',
    `Work with the database at ${place} failed: ${words.trim()}. If it lasts, look at the database's log and run "npx fencepost doctor".`,
  ];
}

function tooManyConnections(routine: string, place: string): string {
  const needs = 'the worker itself needs at most 6';
  if (routine === 'InitializeSessionUserId')
    return `The user of DATABASE_URL has no connection left at ${place}: close some, or raise its limit with "alter role … connection limit …"; ${needs}.`;
  if (routine === 'CheckMyDatabase')
    return `The database at ${place} has reached its own limit of connections: close some, or raise it with "alter database … connection limit …"; ${needs}.`;
  return `The database at ${place} has no connection left: close some, or raise max_connections; ${needs}.`;
}

/** A server that is asked before anything is written. @param standby it is one; otherwise its default is read-only */
export function readOnlyError(standby: boolean, url: string): WorkerError {
  const place = placeOf(url);
  return new WorkerError(
    'READ_ONLY_DATABASE',
    standby
      ? `The database at ${place} is a standby, which takes no writes: point DATABASE_URL at the primary.`
      : `The database at ${place} takes no writes, because default_transaction_read_only is on for it or for the user of DATABASE_URL, as Supabase sets it when the disk is full: make room, then reset it.`,
    { exitCode: ExitCode.unavailable },
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

function routineOf(error: unknown): string {
  return error instanceof Error && 'routine' in error && typeof error.routine === 'string'
    ? error.routine
    : '';
}
