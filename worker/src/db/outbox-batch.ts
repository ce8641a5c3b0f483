/**
 * One page of the outbox as it comes from the database: arrays side by side in their text form. A page holds thousands of
 * rows and most of them are never looked at one by one: their targets are applied together, and their names (xid, id)
 * go back as they came when all of them are confirmed. So nothing is taken apart before somebody asks.
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
  /** The SQLSTATE for which the target was widened to its type's wildcard; null in good order. */
  readonly error: string | null;
}

/** Rows that can be looked at one by one; an array is one. */
export interface Rows<Row> {
  readonly length: number;
  at(index: number): Row | undefined;
  filter(keep: (row: Row) => boolean): Rows<Row>;
}

/** The columns of a claim as Postgres writes arrays: `{a,b,NULL}`. */
export interface PageColumns {
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

/** @returns the elements; of an array of plain words without a look at each, which is what all columns usually are */
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

export class PageRows implements Rows<ClaimedRow> {
  /** The names of the rows, pairwise, as `acknowledge` takes them. */
  readonly xids: string;
  readonly ids: string;
  /** Of each row, in order; a target may stand there several times. */
  readonly targets: readonly string[];
  readonly #columns: PageColumns | null;
  /** Which elements of the columns are meant; null: all of them, in order. */
  readonly #chosen: readonly number[] | null;
  #watchIds: (string | null)[] | null = null;
  #ops: (string | null)[] | null = null;
  #waitedUs: (string | null)[] | null = null;
  #errors: (string | null)[] | null = null;

  /** @param columns null: an empty page */
  constructor(columns: PageColumns | null, chosen: readonly number[] | null = null) {
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

  /** Milliseconds that the row which waited longest had waited at the claim. */
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

  filter(keep: (row: ClaimedRow) => boolean): PageRows {
    return this.#choose((index) => {
      const row = this.at(index);
      return row !== undefined && keep(row);
    });
  }

  /** Without the rows of these ids. */
  without(ids: readonly string[]): PageRows {
    const gone = new Set<string | null>(ids);
    const own = elements(this.ids);
    return this.#choose((index) => !gone.has(own[index] ?? null));
  }

  #choose(keep: (index: number) => boolean): PageRows {
    const chosen: number[] = [];
    for (let index = 0; index < this.length; index++) {
      if (keep(index)) chosen.push(this.#chosen === null ? index : (this.#chosen[index] ?? -1));
    }
    return new PageRows(this.#columns, chosen);
  }

  #names(column: string): string {
    if (this.#chosen === null) return column;
    const all = elements(column);
    return arrayOf(this.#chosen.map((index) => all[index] ?? null));
  }
}
