/** The targets of one batch of the outbox: columns side by side, as Postgres writes arrays, become one object for each target. */
import pg from 'pg';

/** What one watch has to invalidate; a target of two watches is there twice. */
export interface ClaimedTarget {
  readonly target: string;
  readonly watchId: number | null;
  /** `i`, `u`, `d` or `t`; null when it was written by hand. */
  readonly op: string | null;
  /** Milliseconds from the oldest write to the claim, both by the database's clock. */
  readonly ageMs: number;
  /** The SQLSTATE because of which the target was widened to its type's wildcard; null when it was not. */
  readonly error: string | null;
  /** The watch's min_interval in milliseconds; null when it has none. */
  readonly intervalMs: number | null;
}

/** The columns of a claim as Postgres writes arrays: `{a,b,NULL}`. A null column has no value at all. */
export interface BatchColumns {
  readonly targets: string | null;
  readonly watchIds: string | null;
  readonly ops: string | null;
  readonly waitedUs: string | null;
  readonly errors: string | null;
  readonly intervalsMs: string | null;
}

const TEXT_ARRAY: number = 1009;
const parseArray = pg.types.getTypeParser(TEXT_ARRAY, 'text') as (text: string) => (string | null)[];

export function claimedTargets(columns: BatchColumns): readonly ClaimedTarget[] {
  const watchIds = elements(columns.watchIds);
  const ops = elements(columns.ops);
  const waitedUs = elements(columns.waitedUs);
  const errors = elements(columns.errors);
  const intervalsMs = elements(columns.intervalsMs);
  return elements(columns.targets).map((target, index) => ({
    target: target ?? '',
    watchId: numberOf(watchIds[index]),
    op: ops[index] ?? null,
    ageMs: Number(waitedUs[index]) / 1_000,
    error: errors[index] ?? null,
    intervalMs: numberOf(intervalsMs[index]),
  }));
}

/** Columns usually need no quotes, and `split` is faster than the full parser. */
function elements(text: string | null): readonly (string | null)[] {
  if (text === null || text === '{}') return [];
  if (text.includes('"')) return parseArray(text);
  const values: readonly string[] = text.slice(1, -1).split(',');
  return text.includes('NULL') ? values.map((value) => (value === 'NULL' ? null : value)) : values;
}

function numberOf(text: string | null | undefined): number | null {
  return text == null ? null : Number(text);
}
