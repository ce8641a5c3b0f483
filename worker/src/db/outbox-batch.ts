/**
 * One batch of the outbox: columns side by side, as Postgres writes arrays. A batch holds up to 2 000 rows, and most are never
 * read one by one: their targets are applied together, and their keys (xid, id) go back unchanged when all are confirmed.
 * So a column is parsed only when a single row is asked for.
 */
import pg from 'pg';

/** One pending target, as claimed. */
export interface ClaimedRow {
  readonly target: string;
  readonly watchId: number | null;
  /** `i`, `u`, `d` or `t`; null when it was written by hand. */
  readonly op: string | null;
  /** Milliseconds from the write to the claim, both by the database's clock. */
  readonly ageMs: number;
  /** The SQLSTATE because of which the target was widened to its type's wildcard; null when it was not. */
  readonly error: string | null;
}

/** Rows that can be read one by one; an array is one. */
export interface Rows<Row> {
  readonly length: number;
  at(index: number): Row | undefined;
  filter(keep: (row: Row) => boolean): Rows<Row>;
}

/** The columns of a claim as Postgres writes arrays: `{a,b,NULL}`. */
export interface BatchColumns {
  readonly xids: string;
  readonly ids: string;
  readonly targets: string;
  readonly watchIds: string;
  readonly ops: string;
  readonly waitedUs: string;
  /** Null: no row has one. */
  readonly errors: string | null;
}

const TEXT_ARRAY: number = 1009;
const parseArray = pg.types.getTypeParser(TEXT_ARRAY, 'text') as (text: string) => (string | null)[];

/** @returns the elements. Columns usually need no quotes, and `split` is faster than the full parser. */
function elements(text: string): (string | null)[] {
  if (text.includes('"')) return parseArray(text);
  if (text === '{}') return [];
  const values: (string | null)[] = text.slice(1, -1).split(',');
  if (text.includes('NULL')) {
    for (let index = 0; index < values.length; index++) if (values[index] === 'NULL') values[index] = null;
  }
  return values;
}

/** A Postgres array of numbers. */
function arrayOf(numbers: readonly (string | null)[]): string {
  return `{${numbers.join(',')}}`;
}

export class BatchRows implements Rows<ClaimedRow> {
  /** The keys of the rows, pairwise, as `acknowledge` takes them. */
  readonly xids: string;
  readonly ids: string;
  /** Of each row, in order; a target may occur several times. */
  readonly targets: readonly string[];
  readonly #columns: BatchColumns | null;
  /** The indexes of this batch's rows in the columns; null: all of them, in order. */
  readonly #chosen: readonly number[] | null;
  #watchIds: (string | null)[] | null = null;
  #ops: (string | null)[] | null = null;
  #waitedUs: (string | null)[] | null = null;
  #errors: (string | null)[] | null = null;

  /** @param columns null: an empty batch */
  constructor(columns: BatchColumns | null, chosen: readonly number[] | null = null) {
    this.#columns = columns;
    this.#chosen = chosen;
    const targets = elements(columns?.targets ?? '{}') as string[];
    this.targets = chosen === null ? targets : chosen.map((index) => targets[index] ?? '');
    this.xids = this.#names(columns?.xids ?? '{}');
    this.ids = this.#names(columns?.ids ?? '{}');
  }

  get length(): number {
    return this.targets.length;
  }

  /** Whether any target was widened. */
  get hasErrors(): boolean {
    return this.#columns !== null && this.#columns.errors !== null;
  }

  /** Milliseconds from the oldest row's write to the claim. */
  get oldestMs(): number {
    let most = 0;
    for (const waited of elements(this.#columns?.waitedUs ?? '{}')) most = Math.max(most, Number(waited));
    return most / 1_000;
  }

  at(index: number): ClaimedRow | undefined {
    const target = this.targets[index];
    const columns = this.#columns;
    if (target === undefined || columns === null) return undefined;
    this.#watchIds ??= elements(columns.watchIds);
    this.#ops ??= elements(columns.ops);
    this.#waitedUs ??= elements(columns.waitedUs);
    this.#errors ??= columns.errors === null ? [] : elements(columns.errors);
    const place = this.#chosen === null ? index : (this.#chosen[index] ?? -1);
    const watchId = this.#watchIds[place] ?? null;
    return {
      target,
      watchId: watchId === null ? null : Number(watchId),
      op: this.#ops[place] ?? null,
      ageMs: Number(this.#waitedUs[place]) / 1_000,
      error: this.#errors[place] ?? null,
    };
  }

  filter(keep: (row: ClaimedRow) => boolean): BatchRows {
    return this.#choose((index) => {
      const row = this.at(index);
      return row !== undefined && keep(row);
    });
  }

  /** Without the rows of these ids. */
  without(ids: readonly string[]): BatchRows {
    const gone = new Set<string | null>(ids);
    const own = elements(this.ids);
    return this.#choose((index) => !gone.has(own[index] ?? null));
  }

  #choose(keep: (index: number) => boolean): BatchRows {
    const chosen: number[] = [];
    for (let index = 0; index < this.length; index++) {
      if (keep(index)) chosen.push(this.#chosen === null ? index : (this.#chosen[index] ?? -1));
    }
    return new BatchRows(this.#columns, chosen);
  }

  #names(column: string): string {
    if (this.#chosen === null) return column;
    const all = elements(column);
    return arrayOf(this.#chosen.map((index) => all[index] ?? null));
  }
}
