/**
 * Logs an error when it begins, again every 30 s while it lasts, and once when it is over: a worker whose Redis is away for an
 * hour writes 120 lines, not a million.
 *
 * Errors are kept by source, because a delivery that succeeds says nothing about the listener or the queue.
 */
import { describe, ExitCode, type WorkerError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';

/**
 *     delivery   claims, DELs and heartbeats: over when a delivery succeeded
 *     listener   over when a notification arrived
 *     locks      the lock session: over when it is open
 *     queue      over when it answered
 */
export type ErrorSource = 'delivery' | 'listener' | 'locks' | 'queue';

const REPEAT_MS = 30_000;

export class ErrorLog {
  readonly #log: Log;
  readonly #now: () => number;
  /** When each code was last logged, by source. */
  readonly #logged = new Map<ErrorSource, Map<string, number>>();

  /** @param now milliseconds of a monotonic clock */
  constructor(log: Log, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  /** @param from where the error occurred; QUEUE_UNAVAILABLE is always the queue's */
  report(error: WorkerError, from: ErrorSource = 'delivery'): void {
    // Whatever ended the session is reported separately.
    if (error.code === 'SESSION_LOST' || error.code === 'STOPPED') return;
    const source = error.code === 'QUEUE_UNAVAILABLE' ? 'queue' : from;
    const codes = this.#logged.get(source) ?? new Map<string, number>();
    this.#logged.set(source, codes);
    const began = codes.has(error.code);
    // A database that is away fails every source; one line is enough.
    const last = Math.max(
      ...[...this.#logged.values()].map((times) => times.get(error.code) ?? Number.NEGATIVE_INFINITY),
    );
    if (this.#now() - last < REPEAT_MS) {
      if (!began) codes.set(error.code, last);
      return;
    }
    codes.set(error.code, this.#now());
    const fields = { code: error.code, ...causeOf(error) };
    // Whoever reports here goes on by itself; a command, which says the same of the same error, does not.
    const message =
      error.exitCode === ExitCode.unavailable ? `${error.message} Trying again.` : error.message;
    if (began) this.#log.warn(fields, `Still: ${message}`);
    else this.#log.error(fields, message);
  }

  /** This source works again. */
  over(source: ErrorSource = 'delivery'): void {
    const codes = [...(this.#logged.get(source)?.keys() ?? [])];
    this.#logged.delete(source);
    const others = new Set([...this.#logged.values()].flatMap((left) => [...left.keys()]));
    const over = codes.filter((code) => !others.has(code));
    if (over.length === 0) return;
    this.#log.info(
      { over },
      `Recovered from ${over.join(', ')}${this.#logged.size === 0 ? ': invalidations flow' : ''}.`,
    );
  }
}

/**
 * An unexpected error keeps its stack, and one of the database or the queue its cause. All others say everything in their
 * message. Errors of Redis have no cause, since it would repeat keys and values.
 */
function causeOf(error: WorkerError): { stack?: string; because?: string } {
  const { code, cause } = error;
  if (code === 'DATABASE_FAILED' || code === 'QUEUE_UNAVAILABLE') return { because: describe(cause) };
  if (code !== 'INTERNAL') return {};
  const stack = cause instanceof Error ? cause.stack : error.stack;
  return stack === undefined ? {} : { stack };
}
