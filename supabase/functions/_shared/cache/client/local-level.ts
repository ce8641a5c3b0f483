/**
 * The first level, in the process itself: for keys that one isolate reads hundreds of times a second. Off unless `local` is set.
 *
 * What it costs in truth is stated: an answer may be older than an acknowledged invalidation by at most `ttl`, whoever invalidated, and
 * by nothing after this cache's own del. The rules (docs/protocol.md#the-first-level-in-process):
 *
 * - It is filled only by an MGET whose entry was judged a hit, and dated by the moment before that was sent: what a load gave may have been
 *   invalidated already. An answer's age is the larger of both clocks: one may be set back, the other stands while a process is frozen.
 * - It keeps what the MGET said, not the verdict. Each caller judges that anew under its own options, and gets a value of its own.
 * - Nothing is answered past its TTL: an entry says itself when that is over, since Redis is not asked.
 * - Types that grant access are never kept.
 * - This isolate's own del and delPattern empty it before they are sent and after their reply, and no MGET that was sent before the reply
 *   fills it. The same for one key when this isolate stores it.
 * - An MGET that was sent later replaces what an earlier one showed, never the other way round.
 */
import { LRUCache } from 'lru-cache';
import type { Plan } from '../protocol/fences.ts';
import type { KeyState } from '../protocol/key-state.ts';
import type { Runtime } from '../redis/runtime.ts';
import { grantsAccess } from './options.ts';

/** UTF-16 units of all that is kept, names included: at most 32 MB of the 256 MB that an edge function has. */
const MOST_UNITS = 16_000_000;

/** An MGET that waits for its reply. */
export interface LocalReading {
  readonly order: number;
  /** By both clocks, before it was sent. */
  readonly sentAt: number;
  readonly sentMonotonic: number;
  /** What this isolate wrote, or read by a later MGET, since then. */
  readonly changed: Set<string>;
  emptied: boolean;
}

interface Kept {
  readonly state: KeyState;
  readonly reading: LocalReading;
  /** Milliseconds from the sending. */
  readonly longestMs: number;
}

export interface LocalSettings {
  readonly ttlMs: number;
  readonly max: number;
}

export class LocalLevel {
  readonly #settings: LocalSettings;
  readonly #runtime: Runtime;
  readonly #readings = new Set<LocalReading>();
  readonly #store: LRUCache<string, Kept>;
  #sent = 0;

  constructor(settings: LocalSettings, runtime: Runtime) {
    this.#settings = settings;
    this.#runtime = runtime;
    this.#store = new LRUCache<string, Kept>({
      max: settings.max,
      maxSize: MOST_UNITS,
      sizeCalculation: unitsOf,
    });
  }

  /** What an MGET said of a key not longer than `ttl` ago, while its entry was fresh; to be judged like any other state. */
  find(plan: Plan): KeyState | null {
    const kept = this.#store.get(plan.key);
    if (kept === undefined) return null;
    const { state, reading, longestMs } = kept;
    const age = Math.max(
      this.#runtime.now() - reading.sentAt,
      this.#runtime.monotonic() - reading.sentMonotonic,
    );
    if (age > longestMs) {
      this.#store.delete(plan.key);
      return null;
    }
    // It may have been read for a caller that named other dependencies.
    return { ...state, plan };
  }

  /** An MGET is about to be sent. */
  begin(): LocalReading {
    const reading = {
      order: this.#sent++,
      sentAt: this.#runtime.now(),
      sentMonotonic: this.#runtime.monotonic(),
      changed: new Set<string>(),
      emptied: false,
    };
    this.#readings.add(reading);
    return reading;
  }

  /** The MGET was answered, with null when Redis is away. What earlier ones showed of its keys is over. */
  answered(reading: LocalReading, states: readonly KeyState[] | null): void {
    this.#readings.delete(reading);
    for (const { plan } of states ?? []) {
      const kept = this.#store.get(plan.key);
      if (kept !== undefined && kept.reading.order < reading.order) this.#store.delete(plan.key);
      for (const other of this.#readings) if (other.order < reading.order) other.changed.add(plan.key);
    }
  }

  /** A state of this MGET, which was answered just now, was judged a hit. @param freshUntil of its entry; null: nobody knows */
  fill(reading: LocalReading, state: KeyState, freshUntil: number | null): void {
    const { key } = state.plan;
    const longestMs = Math.min(this.#settings.ttlMs, (freshUntil ?? 0) - reading.sentAt);
    if (longestMs <= 0) return;
    if (reading.emptied || reading.changed.has(key) || grantsAccess(state.plan)) return;
    if ((this.#store.get(key)?.reading.order ?? -1) > reading.order) return;
    this.#store.set(key, { state, reading, longestMs });
  }

  /** Carries out a deletion of this isolate's: whatever its reply, nothing from before it is answered afterwards. */
  async emptyAround<T>(deletion: () => Promise<T>): Promise<T> {
    this.#empty();
    try {
      return await deletion();
    } finally {
      this.#empty();
    }
  }

  /** This isolate writes these entries: called before the request is sent and again when it is answered. */
  wrote(keys: readonly string[]): void {
    for (const key of keys) {
      this.#store.delete(key);
      for (const reading of this.#readings) reading.changed.add(key);
    }
  }

  #empty(): void {
    this.#store.clear();
    for (const reading of this.#readings) reading.emptied = true;
  }
}

function unitsOf({ state: { plan, fences, entry } }: Kept): number {
  return [plan.key, ...plan.fences, ...fences, entry].reduce((sum, text) => sum + (text?.length ?? 0), 0);
}
