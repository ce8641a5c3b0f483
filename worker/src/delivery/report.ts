/**
 * Logs invalidations: one line a target, or one line a batch when there are many, so that a terminal stays readable and a log
 * affordable.
 */
import type { Log } from '../lib/log.ts';
import type { ConfirmedBatch, ConfirmedTarget } from './loop.ts';

const OPERATIONS: Readonly<Record<string, string>> = { i: 'insert', u: 'update', d: 'delete', t: 'truncate' };

/** A batch of more targets is one line. */
const MAX_LINES_PER_BATCH = 20;
/** After this many lines in one second, each batch is one line. */
const MAX_LINES_PER_SECOND = 100;

export class Report {
  readonly #log: Log;
  readonly #readTables: () => Promise<Map<number, string>>;
  readonly #pretty: boolean;
  #tables = new Map<number, string>();
  #reading = false;
  #second = 0;
  #lines = 0;

  constructor(log: Log, pretty: boolean, readTables: () => Promise<Map<number, string>>) {
    this.#log = log;
    this.#pretty = pretty;
    this.#readTables = readTables;
  }

  /** Reads the names of the watched tables. Called when a term begins and when a watch is unknown. */
  async refresh(): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    try {
      this.#tables = await this.#readTables();
    } catch {
      // The log then shows the watch's id.
    } finally {
      this.#reading = false;
    }
  }

  confirmed(batch: ConfirmedBatch): void {
    if (!this.#log.isLevelEnabled('info')) return;
    const second = Math.floor(performance.now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#lines = 0;
    }
    const { targets, distinctTargets, changes, keys } = batch;
    const applyMs = round(batch.applyMs);
    this.#lines += distinctTargets <= MAX_LINES_PER_BATCH ? distinctTargets : 1;
    if (distinctTargets > MAX_LINES_PER_BATCH || this.#lines > MAX_LINES_PER_SECOND) {
      this.#log.info(
        { rows: changes, targets: distinctTargets, keys, applyMs },
        `${distinctTargets} targets of ${changes} writes, one batch of ${keys} keys, confirmed in ${applyMs} ms`,
      );
      return;
    }
    // A target of two watches is one line.
    const seen = new Map(targets.map((target) => [target.target, target]));
    for (const target of seen.values()) this.#line(target, target.ageMs + batch.applyMs);
  }

  #line({ target, watchId, op }: ConfirmedTarget, ms: number): void {
    const table = this.#tableOf(watchId);
    const operation = op === null ? 'by hand' : (OPERATIONS[op] ?? op);
    const text = this.#pretty
      ? `${table.padEnd(16)}  ${operation.padEnd(8)}  ${target.padEnd(36)}  ${round(ms).toFixed(1)} ms`
      : 'invalidated';
    this.#log.info({ table, operation, target, ms: round(ms) }, text);
  }

  #tableOf(watchId: number | null): string {
    if (watchId === null) return '-';
    const table = this.#tables.get(watchId);
    if (table === undefined) void this.refresh();
    return table ?? `watch ${watchId}`;
  }
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
