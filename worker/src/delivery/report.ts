/**
 * Logs invalidations: one line a target, or one line a batch when there are many, so that a terminal stays readable and a log
 * affordable.
 */
import type { Log } from '../lib/log.ts';
import type { ConfirmedBatch, ConfirmedRow } from './loop.ts';

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
    const seen = new Map<string, ConfirmedRow>();
    if (batch.targets <= MAX_LINES_PER_BATCH) {
      // The first row of each target is its oldest.
      for (let index = 0; index < batch.rows.length && seen.size < batch.targets; index++) {
        const row = batch.rows.at(index);
        if (row !== undefined && !seen.has(row.target)) seen.set(row.target, row);
      }
    }
    this.#lines += Math.max(1, seen.size);
    if (seen.size === 0 || this.#lines > MAX_LINES_PER_SECOND) {
      if (batch.rows.length === 0) return;
      const { rows, targets, keys, applyMs } = batch;
      this.#log.info(
        { rows: rows.length, targets, keys, applyMs: round(applyMs) },
        `${targets} targets of ${rows.length} writes, one batch of ${keys} keys, confirmed in ${round(applyMs)} ms`,
      );
      return;
    }
    for (const row of seen.values()) this.#line(row, row.ageMs + batch.applyMs);
  }

  #line(row: ConfirmedRow, ms: number): void {
    const table = this.#tableOf(row);
    const operation = row.op === null ? 'by hand' : (OPERATIONS[row.op] ?? row.op);
    const text = this.#pretty
      ? `${table.padEnd(16)}  ${operation.padEnd(8)}  ${row.target.padEnd(36)}  ${round(ms).toFixed(1)} ms`
      : 'invalidated';
    this.#log.info({ table, operation, target: row.target, ms: round(ms) }, text);
  }

  #tableOf(row: ConfirmedRow): string {
    if (row.watchId === null) return '-';
    const table = this.#tables.get(row.watchId);
    if (table === undefined) void this.refresh();
    return table ?? `watch ${row.watchId}`;
  }
}

function round(ms: number): number {
  return Math.round(ms * 10) / 10;
}
