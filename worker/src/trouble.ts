/**
 * Says what is wrong once when it begins, again every half minute while it lasts, and once when it is over: a worker
 * whose Redis is away for an hour writes 120 lines, not a million.
 */
import type { WorkerError } from './errors.ts';
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

/** An unexpected failure keeps its stack; expected ones say all in their sentence. */
function causeOf(error: WorkerError): { stack?: string } {
  if (error.code !== 'INTERNAL') return {};
  const stack = error.cause instanceof Error ? error.cause.stack : error.stack;
  return stack === undefined ? {} : { stack };
}
