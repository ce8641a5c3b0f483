/**
 * Says what is wrong once when it begins, again every half minute while it lasts, and once when it is over: a worker
 * whose Redis is away for an hour writes 120 lines, not a million.
 */
import { describe, type WorkerError } from './errors.ts';
import type { Log } from './log.ts';

const REPEAT_MS = 30_000;

export class Trouble {
  readonly #log: Log;
  readonly #lastSaid = new Map<string, number>();

  constructor(log: Log) {
    this.#log = log;
  }

  report(error: WorkerError): void {
    // A session that is lost is told by what ended it.
    if (error.code === 'SESSION_LOST' || error.code === 'STOPPED') return;
    const now = performance.now();
    const said = this.#lastSaid.get(error.code);
    if (said !== undefined && now - said < REPEAT_MS) return;
    this.#lastSaid.set(error.code, now);
    const fields = { code: error.code, ...causeOf(error) };
    if (said === undefined) this.#log.error(fields, error.message);
    else this.#log.warn(fields, `Still: ${error.message}`);
  }

  /** Everything works again. */
  over(): void {
    if (this.#lastSaid.size === 0) return;
    const codes = [...this.#lastSaid.keys()];
    this.#lastSaid.clear();
    this.#log.info({ over: codes }, `Recovered from ${codes.join(', ')}: invalidations flow.`);
  }
}

/**
 * An unexpected failure keeps its stack, and one of the database or the queue what was said there; all others say
 * everything in their sentence. Redis's errors have no cause: it would repeat keys and values.
 */
function causeOf(error: WorkerError): { stack?: string; because?: string } {
  const { code, cause } = error;
  if (code === 'DATABASE_FAILED' || code === 'QUEUE_UNAVAILABLE') return { because: describe(cause) };
  if (code !== 'INTERNAL') return {};
  const stack = cause instanceof Error ? cause.stack : error.stack;
  return stack === undefined ? {} : { stack };
}
