/**
 * Says what is wrong once when it begins, again every half minute while it lasts, and once when it is over: a worker
 * whose Redis is away for an hour writes 120 lines, not a million.
 *
 * What is over is judged by the part that failed: a drain that goes well says nothing of a listener that is deaf, nor of a
 * queue that does not answer.
 */
import { describe, type WorkerError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';

/**
 *     flow       claims, DELs and heartbeats: over when a drain went well
 *     listener   over when a notification was heard
 *     locks      the session of S and K: over when it is open
 *     queue      over when it answered
 */
export type Part = 'flow' | 'listener' | 'locks' | 'queue';

const REPEAT_MS = 30_000;

export class Trouble {
  readonly #log: Log;
  readonly #now: () => number;
  /** Milliseconds when each code was last said, by part. */
  readonly #said = new Map<Part, Map<string, number>>();

  /** @param now milliseconds of a monotonic clock */
  constructor(log: Log, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
  }

  /** @param of the part that failed; the queue's own failure is the queue's, whoever met it */
  report(error: WorkerError, of: Part = 'flow'): void {
    // A session that is lost is told by what ended it.
    if (error.code === 'SESSION_LOST' || error.code === 'STOPPED') return;
    const part = error.code === 'QUEUE_UNAVAILABLE' ? 'queue' : of;
    const codes = this.#said.get(part) ?? new Map<string, number>();
    this.#said.set(part, codes);
    const began = codes.has(error.code);
    // A database that is away is met by every part; one line says it for all.
    const last = Math.max(
      ...[...this.#said.values()].map((of) => of.get(error.code) ?? Number.NEGATIVE_INFINITY),
    );
    if (this.#now() - last < REPEAT_MS) {
      if (!began) codes.set(error.code, last);
      return;
    }
    codes.set(error.code, this.#now());
    const fields = { code: error.code, ...causeOf(error) };
    if (began) this.#log.warn(fields, `Still: ${error.message}`);
    else this.#log.error(fields, error.message);
  }

  /** This part works again. */
  over(part: Part = 'flow'): void {
    const codes = [...(this.#said.get(part)?.keys() ?? [])];
    this.#said.delete(part);
    const others = new Set([...this.#said.values()].flatMap((left) => [...left.keys()]));
    const over = codes.filter((code) => !others.has(code));
    if (over.length === 0) return;
    this.#log.info(
      { over },
      `Recovered from ${over.join(', ')}${this.#said.size === 0 ? ': invalidations flow' : ''}.`,
    );
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
