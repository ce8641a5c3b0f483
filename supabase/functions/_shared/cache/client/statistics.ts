/**
 * How well each key type is served. The isolate counts it and writes it to Redis, where `fencepost status` adds it up.
 * protocol/statistics.ts describes the format.
 *
 * Cost: one flush is one command, whatever the number of types. It happens at most every 10 s, and then only when the isolate has
 * sent 250 commands since the last one or a minute has passed. So at most 0.8 % of its commands are flushes; the first of an hour
 * is two, because the hash gets its expiry.
 */
import type { CompiledType } from '../protocol/key-types.ts';
import {
  type Counts,
  KEPT_SECONDS,
  noCounts,
  OTHER_TYPE,
  READER_COMMANDS,
  statisticsKey,
} from '../protocol/statistics.ts';
import type { RedisAccess } from '../redis/redis-access.ts';
import type { Runtime } from '../redis/runtime.ts';

const FLUSH_INTERVAL_MS = 10_000;
const FLUSH_COMMANDS = 250;
const FLUSH_IDLE_INTERVAL_MS = 60_000;
const HOUR_MS = 3_600_000;

/** What `stats()` answers for one key type, since the isolate started. */
export interface TypeStatistics extends Counts {
  /** hits / (hits + misses), or null before the first read. */
  readonly hitRate: number | null;
  readonly hitRateTarget: number | null;
}

export interface CacheStatistics {
  /** Of the types that were read or loaded. */
  readonly types: Readonly<Partial<Record<string, TypeStatistics>>>;
  /** Billed commands sent, and calls to Redis that failed. */
  readonly commands: number;
  readonly redisErrors: number;
}

export class Statistics {
  readonly #runtime: Runtime;
  readonly #types: readonly Pick<CompiledType, 'name' | 'hitRate'>[];
  readonly #counters = new Map<string, { readonly total: Counts; hour: Counts }>();
  readonly #isolate: string;
  #redisErrors = 0;
  /** The hour that is counted, as a number of hours since 1970. */
  #hourNumber = 0;
  #flushed = { at: 0, commands: 0, hourNumber: 0 };
  #hourCommands = 0;
  /** The hash that has its expiry. A hash that was evicted and written again has none. */
  #expiring = '';

  /** @param types those that the cache was created with */
  constructor(runtime: Runtime, types: readonly Pick<CompiledType, 'name' | 'hitRate'>[]) {
    this.#types = types;
    this.#runtime = runtime;
    this.#isolate = runtime.randomToken();
    this.#flushed.at = runtime.now();
  }

  read(name: string, outcome: 'hit' | 'stale' | 'miss', milliseconds: number): void {
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

  load(name: string, failed: boolean, milliseconds: number): void {
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
    const types: Partial<Record<string, TypeStatistics>> = {};
    for (const [name, { total: counts }] of this.#counters) {
      const reads = counts.hits + counts.misses;
      const target = this.#types.find((type) => type.name === name)?.hitRate ?? null;
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
    // Commands that the last hour sent after its last flush count in this hour.
    this.#hourCommands = (first ? 0 : this.#hourCommands) + commands - this.#flushed.commands;
    this.#flushed = { at: now, commands, hourNumber: this.#hourNumber };
    const value = JSON.stringify({
      ...Object.fromEntries(
        this.#types.map(({ name, hitRate }) => [
          name,
          { ...this.#counters.get(name)?.hour, target: hitRate },
        ]),
      ),
      [OTHER_TYPE]: this.#counters.get(OTHER_TYPE)?.hour,
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

  #countersFor(name: string): { readonly total: Counts; readonly hour: Counts } {
    const hourNumber = Math.floor(this.#runtime.now() / HOUR_MS);
    if (hourNumber !== this.#hourNumber) {
      // Counts of the last hour that were not flushed are dropped: at most one minute of them.
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
