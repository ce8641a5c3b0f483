/**
 * The format in which readers and workers write down what they count, and how to add it up.
 *
 * One hash an hour: `fencepost:stats:2026-11-01T10` (UTC), kept for two days. Each isolate owns one field, named at random.
 * A field's value is JSON of what its isolate has counted within the hour so far:
 *
 *   { "quota": { "hits": 12, "misses": 3, …, "target": 0.8 }, "prefs": {}, "other": { … }, "#commands": 31 }
 *
 * - One member for each key type that the isolate's cache was created with, in that order, read or not; then `other`, for keys of
 *   no type, once there were any. So a program that reads the hash learns the types and compiles none in.
 * - `target` is the type's target hit rate, from 0 to 1. It is absent where the type names none, and in what older readers wrote.
 * - `#commands` counts the commands that the isolate sent. A worker's field holds nothing but `#worker`, the commands that it sent.
 *
 * Values are cumulative: writing one again does no harm, and the next one makes up for one that was lost.
 */

/** How long an hour's hash is kept, in seconds. */
export const KEPT_SECONDS = 2 * 86_400;

/** The members for the commands that an isolate, or a worker, sent. No key type's name starts with `#`. */
export const READER_COMMANDS = '#commands';
export const WORKER_COMMANDS = '#worker';

/** The name under which keys of no type are counted. */
export const OTHER_TYPE = 'other';

/** What is counted for one key type. Times are sums in milliseconds. */
export interface Counts {
  /** Reads answered from the cache, stale ones included. */
  hits: number;
  stale: number;
  /** Reads that a loader (this one's or another's) answered. */
  misses: number;
  /** Calls of loaders, and those that failed. */
  loads: number;
  errors: number;
  hitMs: number;
  loadMs: number;
}

/** What several isolates counted for one key type. */
export interface TypeSums extends Counts {
  /** The target hit rate, from 0 to 1; the highest where isolates of two deployments differ, null where none names one. */
  target: number | null;
}

/** The hash that holds the counts of the hour in which a moment lies. @param now milliseconds since 1970 */
export function statisticsKey(now: number): string {
  return `fencepost:stats:${new Date(now).toISOString().slice(0, 13)}`;
}

export function noCounts(): Counts {
  return { hits: 0, stale: 0, misses: 0, loads: 0, errors: 0, hitMs: 0, loadMs: 0 };
}

/** The members in the fields of one or several such hashes. Fields in another format are left out. */
function* membersOf(fields: Iterable<string>): Generator<[name: string, counted: unknown]> {
  for (const field of fields) {
    try {
      yield* Object.entries((JSON.parse(field) as object | null) ?? {});
    } catch {
      // No JSON.
    }
  }
}

/** Adds up what isolates counted, by key type, in the order in which the first isolate names them. */
export function sumStatistics(fields: Iterable<string>): Map<string, TypeSums> {
  const sums = new Map<string, TypeSums>();
  for (const [name, counted] of membersOf(fields)) {
    if (typeof counted !== 'object' || counted === null) continue;
    const written = counted as Partial<Record<keyof TypeSums, unknown>>;
    const sum = sums.get(name) ?? { ...noCounts(), target: null };
    for (const measure of Object.keys(noCounts()) as (keyof Counts)[]) {
      const value = written[measure];
      if (isCount(value)) sum[measure] += value;
    }
    if (isCount(written.target) && written.target <= 1)
      sum.target = Math.max(sum.target ?? 0, written.target);
    sums.set(name, sum);
  }
  return sums;
}

/** Adds up the commands, as Upstash bills them, that isolates and workers sent. */
export function sumCommands(fields: Iterable<string>): { readers: number; worker: number } {
  const sums = { readers: 0, worker: 0 };
  for (const [name, counted] of membersOf(fields)) {
    if (!isCount(counted)) continue;
    if (name === READER_COMMANDS) sums.readers += counted;
    if (name === WORKER_COMMANDS) sums.worker += counted;
  }
  return sums;
}

/** A number that an isolate can have counted; anything else would spoil the sums. */
function isCount(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}
