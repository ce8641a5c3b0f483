/**
 * How well each key type is served: counted in the isolate, and written to Redis for `fencepost status` to sum up.
 *
 * In Redis, one hash an hour: `fencepost:stats:2026-11-01T10` (UTC), one field per isolate (a random name), whose value is
 * JSON of what that isolate counted within the hour so far: { "quota": { "hits": 12, … }, …, "#commands": 31 }. The value is
 * cumulative, so writing it again is harmless, one flush is one command whatever the number of types, and a flush that was lost
 * is made good by the next. The hash expires after two days. A worker's field has "#worker" alone, the commands that it
 * sent. `sumStatistics` and `sumCommands` add the fields up.
 *
 * Cost: a flush happens at most every 10 s, and then only when the isolate has sent 250 commands since the last (so at most
 * 0.8 % of its commands are flushes, two of them in an hour's first), or a minute has passed.
 */
import { catalogueTypes, type TypeName } from '../protocol/key-types.ts';
import type { RedisAccess } from '../redis/redis-access.ts';
import type { Runtime } from '../redis/runtime.ts';

const FLUSH_INTERVAL_MS = 10_000;
const FLUSH_COMMANDS = 250;
const FLUSH_IDLE_INTERVAL_MS = 60_000;
const HOUR_MS = 3_600_000;
/** How long an hour's hash is kept, in seconds. */
export const KEPT_SECONDS = 2 * 86_400;

/** What stands beside the key types, none of which is named so: the commands that an isolate, or a worker, sent. */
export const READER_COMMANDS = '#commands';
export const WORKER_COMMANDS = '#worker';

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

export type StatisticsName = TypeName | 'other';

/** What `stats()` answers for one key type, since the isolate started. */
export interface TypeStatistics extends Counts {
  /** hits / (hits + misses), or null before the first read. */
  readonly hitRate: number | null;
  readonly hitRateTarget: number | null;
}

export interface CacheStatistics {
  readonly types: Readonly<Partial<Record<StatisticsName, TypeStatistics>>>;
  /** Billed commands sent, and calls to Redis that failed. */
  readonly commands: number;
  readonly redisErrors: number;
}

/** The hash that holds the counts of the hour in which a moment lies. */
export function statisticsKey(now: number): string {
  return `fencepost:stats:${new Date(now).toISOString().slice(0, 13)}`;
}

/** What the fields of one or several such hashes hold; what is none of ours is left out. */
function* entriesOf(fields: Iterable<string>): Generator<[name: string, counted: unknown]> {
  for (const field of fields) {
    try {
      yield* Object.entries((JSON.parse(field) as object | null) ?? {});
    } catch {
      // Anybody may write into a hash.
    }
  }
}

/** Adds up what isolates counted, by key type. */
export function sumStatistics(fields: Iterable<string>): Map<string, Counts> {
  const sums = new Map<string, Counts>();
  for (const [name, counts] of entriesOf(fields)) {
    if (typeof counts !== 'object' || counts === null) continue;
    const sum = sums.get(name) ?? noCounts();
    for (const measure of Object.keys(sum) as (keyof Counts)[]) {
      const value: unknown = (counts as Partial<Counts>)[measure];
      if (isCount(value)) sum[measure] += value;
    }
    sums.set(name, sum);
  }
  return sums;
}

/** Adds up the commands, as Upstash bills them, that isolates and workers sent. */
export function sumCommands(fields: Iterable<string>): { readers: number; worker: number } {
  const sums = { readers: 0, worker: 0 };
  for (const [name, counted] of entriesOf(fields)) {
    if (!isCount(counted)) continue;
    if (name === READER_COMMANDS) sums.readers += counted;
    if (name === WORKER_COMMANDS) sums.worker += counted;
  }
  return sums;
}

/** Anybody may write into a hash: what no isolate can have counted would make sums of nothing. */
function isCount(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}

export class Statistics {
  readonly #runtime: Runtime;
  readonly #counters = new Map<StatisticsName, { readonly total: Counts; hour: Counts }>();
  readonly #isolate: string;
  #redisErrors = 0;
  /** The hour that is counted, as a number of hours since 1970. */
  #hourNumber = 0;
  #flushed = { at: 0, commands: 0, hourNumber: 0 };
  #hourCommands = 0;
  /** The hash that has an end, as far as is known: one that is lost (evicted, flushed) and written anew has none. */
  #expiring = '';

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
    this.#isolate = runtime.randomToken();
    this.#flushed.at = runtime.now();
  }

  read(name: StatisticsName, outcome: 'hit' | 'stale' | 'miss', milliseconds: number): void {
    const { total, hour } = this.#countersFor(name);
    if (outcome === 'miss') {
      total.misses++;
      hour.misses++;
      return;
    }
    total.hits++;
    hour.hits++;
    total.hitMs += milliseconds;
    hour.hitMs += milliseconds;
    if (outcome === 'hit') return;
    total.stale++;
    hour.stale++;
  }

  load(name: StatisticsName, failed: boolean, milliseconds: number): void {
    const { total, hour } = this.#countersFor(name);
    for (const counts of [total, hour]) {
      counts.loads++;
      counts.loadMs += milliseconds;
      if (failed) counts.errors++;
    }
  }

  redisFailed(): void {
    this.#redisErrors++;
  }

  snapshot(commands: number): CacheStatistics {
    const types: Partial<Record<StatisticsName, TypeStatistics>> = {};
    for (const [name, { total: counts }] of this.#counters) {
      const reads = counts.hits + counts.misses;
      const target = catalogueTypes().find((type) => type.name === name)?.hitRate ?? null;
      types[name] = { ...counts, hitRate: reads === 0 ? null : counts.hits / reads, hitRateTarget: target };
    }
    return { types, commands, redisErrors: this.#redisErrors };
  }

  /** Writes the hour's counts in the background when that is due. */
  flushWhenDue(access: RedisAccess): void {
    const now = this.#runtime.now();
    const since = now - this.#flushed.at;
    if (since < FLUSH_INTERVAL_MS || this.#counters.size === 0) return;
    if (since < FLUSH_IDLE_INTERVAL_MS && access.commands - this.#flushed.commands < FLUSH_COMMANDS) return;
    const first = this.#flushed.hourNumber !== this.#hourNumber;
    const key = statisticsKey(this.#hourNumber * HOUR_MS);
    const endless = this.#expiring !== key;
    const commands = access.commands + (endless ? 2 : 1);
    // Those that the last hour's end sent since its last flush count as this hour's.
    this.#hourCommands = (first ? 0 : this.#hourCommands) + commands - this.#flushed.commands;
    this.#flushed = { at: now, commands, hourNumber: this.#hourNumber };
    const value = JSON.stringify({
      ...Object.fromEntries([...this.#counters].map(([name, { hour }]) => [name, hour])),
      [READER_COMMANDS]: this.#hourCommands,
    });
    const record = { op: 'record', key, field: this.#isolate, value } as const;
    const writes = endless ? [record, { op: 'expire', key, seconds: KEPT_SECONDS } as const] : [record];
    this.#expiring = key;
    this.#runtime.background(
      access.write(writes).then((replies) => {
        // 1: the field is new, though this isolate has written it before
        if (replies === null || (replies[0] === 1 && !first)) this.#expiring = '';
      }),
    );
  }

  #countersFor(name: StatisticsName): { readonly total: Counts; readonly hour: Counts } {
    const hourNumber = Math.floor(this.#runtime.now() / HOUR_MS);
    if (hourNumber !== this.#hourNumber) {
      // What the last hour's end counted since its last flush is left behind; at most a minute's worth.
      this.#hourNumber = hourNumber;
      for (const counters of this.#counters.values()) counters.hour = noCounts();
    }
    let counters = this.#counters.get(name);
    if (counters === undefined) {
      counters = { total: noCounts(), hour: noCounts() };
      this.#counters.set(name, counters);
    }
    return counters;
  }
}

function noCounts(): Counts {
  return { hits: 0, stale: 0, misses: 0, loads: 0, errors: 0, hitMs: 0, loadMs: 0 };
}
