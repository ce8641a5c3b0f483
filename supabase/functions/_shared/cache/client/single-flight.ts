/**
 * Single-flight: loads in progress in this isolate, and which callers may share them.
 *
 *   Rule 6  A caller joins a load only if its own MGET showed the very fences and the epoch of the load's version stamp, or if the
 *           load has not begun yet.
 *
 * Sharing by key alone is wrong: a caller that starts after a write was acknowledged would get the row from before it. Without
 * fences (Redis is away) only a load that begins after all of its callers have asked is new enough. Such a load collects
 * callers for the moment before it begins, and nobody after that. docs/protocol.md#leases-and-single-flight has the proof.
 *
 * A caller also joins only if:
 * - the load still has a waiter, and does not hang;
 * - the identity is the same: a refusal is one caller's, not the next one's;
 * - while no heartbeat bounds staleness, the load began no longer ago than the caller accepts of an entry, and tolerates no older
 *   entries than the caller does;
 * - the load waits for other isolates no longer than the caller's own `timeout` allows.
 */
import type { VersionStamp } from '../protocol/entry.ts';
import type { Plan } from '../protocol/fences.ts';
import { isCurrent, type KeyState, sameTexts } from '../protocol/key-state.ts';
import type { Runtime } from '../redis/runtime.ts';
import { type Lease, UncacheableKeys } from './lease.ts';
import type { Lifetimes } from './options.ts';

/**
 * A load that takes longer may never end, so nobody joins it any more, and callers that have joined it start over.
 * That also frees a loader that asks for its own key, and so waits for itself.
 */
export const HUNG_AFTER_MS = 30_000;

export type Settled =
  /** `sharable`: JSON keeps the value, so that others may have a copy of it. */
  | { readonly ok: true; readonly value: unknown; readonly sharable: boolean }
  | { readonly ok: false; readonly error: unknown };

/** The callers that wait for the loads of one loader call. When the last of them leaves, the call is aborted. */
export class Waiters {
  readonly #controller = new AbortController();
  #waiting = 0;
  #unsettled = 0;
  #reason: unknown;
  /** Not listeners of the signal: a batch has many loads, and Node takes more than ten for a leak. */
  readonly #onAbort: (() => void)[] = [];

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  join(): void {
    this.#waiting++;
  }

  /** One caller has all its answers. Loads that others have given up may still run; the last caller to finish aborts them. */
  finish(): void {
    if (--this.#waiting === 0 && this.#unsettled > 0) this.#abort(this.#reason);
  }

  /** One caller gives up. */
  leave(reason: unknown): void {
    this.#reason = reason;
    if (--this.#waiting === 0) this.#abort(reason);
  }

  whenAborted(run: () => void): void {
    this.#onAbort.push(run);
  }

  /** One more load is in progress, until it has settled. */
  add(settled: Promise<Settled>): void {
    this.#unsettled++;
    void settled.then(() => {
      this.#unsettled--;
    });
  }

  #abort(reason: unknown): void {
    this.#controller.abort(reason);
    for (const run of this.#onAbort.splice(0)) run();
  }
}

/** The load of one key, from the miss until its answer is there. */
export interface KeyLoad {
  readonly plan: Plan;
  readonly lifetimes: Lifetimes;
  readonly identity: string | undefined;
  readonly waiters: Waiters;
  /** By the monotonic clock. */
  readonly startedAt: number;
  /** Taken before the loader is called; `loadedAt` is set again when it is. Null: nothing may be stored. */
  stamp: VersionStamp | null;
  /** Null when the key's lease is not ours. */
  lease: Lease | null;
  /** The name of the lease that another isolate holds; null: this load does not wait for one. */
  heldLease: string | null;
  /** What that lease held when it was first seen; null: not seen yet. */
  heldBy: string | null;
  /** By the monotonic clock: until when this load waits for that isolate; null: it does not wait. */
  waitsUntil: number | null;
  /** Asked for with `fresh`: what is cached must not answer any more, even if the value is not kept. */
  replaces: boolean;
  readonly settled: Promise<Settled>;
  readonly settle: (outcome: Settled) => void;
}

export function newKeyLoad(fields: Omit<KeyLoad, 'settled' | 'settle'>): KeyLoad {
  const { promise, resolve } = withResolvers<Settled>();
  // Registered before any caller can wait: a caller that finishes when the load has settled must find it counted as settled.
  fields.waiters.add(promise);
  return { ...fields, settled: promise, settle: resolve };
}

export class SingleFlight {
  readonly #runtime: Runtime;
  /** Keys whose loads need not wait for each other. */
  readonly uncacheable: UncacheableKeys;
  readonly #byKey = new Map<string, KeyLoad[]>();
  readonly #collecting = new Map<string, KeyLoad>();
  readonly #preparing = new Map<string, Promise<unknown>>();

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
    this.uncacheable = new UncacheableKeys(runtime);
  }

  /** How many loads and preparations there are; 0 when nobody waits for anything. */
  get size(): number {
    return this.#byKey.size + this.#collecting.size + this.#preparing.size;
  }

  /** Makes a load joinable until it has settled or was given up. */
  register(load: KeyLoad): void {
    const { key } = load.plan;
    this.#byKey.set(key, [...(this.#byKey.get(key) ?? []), load]);
    const remove = (): void => {
      const left = (this.#byKey.get(key) ?? []).filter((other) => other !== load);
      if (left.length > 0) this.#byKey.set(key, left);
      else this.#byKey.delete(key);
    };
    void load.settled.then(remove);
    load.waiters.whenAborted(remove);
  }

  /** Makes a load without fences joinable until it begins. */
  collect(load: KeyLoad): void {
    this.#collecting.set(load.plan.key, load);
  }

  /** The load begins, or was given up: later callers come too late. */
  close(load: KeyLoad): void {
    if (this.#collecting.get(load.plan.key) === load) this.#collecting.delete(load.plan.key);
  }

  /** The load without fences that has not begun yet. */
  collecting(key: string, identity: string | undefined): KeyLoad | undefined {
    const load = this.#collecting.get(key);
    if (load === undefined || load.identity !== identity || !this.#isLive(load)) return undefined;
    return load;
  }

  /** The load that a caller in this state may join. */
  joinable(
    { plan, fences, epoch }: Pick<KeyState, 'plan' | 'fences' | 'epoch'>,
    lifetimes: Lifetimes,
    identity: string | undefined,
  ): KeyLoad | undefined {
    const now = this.#runtime.monotonic();
    return this.#byKey
      .get(plan.key)
      ?.find(
        (load) =>
          load.stamp !== null &&
          this.#isLive(load) &&
          load.identity === identity &&
          (load.waitsUntil === null ||
            waitsAtMostUntil(load) <= waitsAtMostUntil({ startedAt: now, lifetimes })) &&
          load.stamp.epoch === epoch &&
          sameTexts(load.stamp.fences, fences) &&
          isCurrent(load.stamp, epoch, lifetimes.degradedMs, this.#runtime.now()) &&
          (epoch !== null || load.lifetimes.degradedMs <= lifetimes.degradedMs),
      );
  }

  /** Remembers for each key that its fences are being made, until they are. The promise must not reject. */
  async prepare<T>(keys: readonly string[], preparation: Promise<T>): Promise<T> {
    for (const key of keys) this.#preparing.set(key, preparation);
    try {
      return await preparation;
    } finally {
      for (const key of keys) if (this.#preparing.get(key) === preparation) this.#preparing.delete(key);
    }
  }

  /** Settles when the preparation of a key that is in progress here is over; undefined when there is none. */
  preparing(key: string): Promise<unknown> | undefined {
    return this.#preparing.get(key);
  }

  /** Whether a load of a key is in progress here. */
  has(key: string): boolean {
    return this.#byKey.get(key)?.some((load) => this.#isLive(load)) ?? false;
  }

  /** Milliseconds until a load counts as hung. */
  hungIn({ startedAt }: KeyLoad): number {
    return startedAt + HUNG_AFTER_MS - this.#runtime.monotonic();
  }

  #isLive(load: KeyLoad): boolean {
    return !load.waiters.signal.aborted && this.hungIn(load) > 0;
  }
}

/** By the monotonic clock: when a load stops waiting for others' loads, even if it is invalidated again and again. */
export function waitsAtMostUntil({ startedAt, lifetimes }: Pick<KeyLoad, 'startedAt' | 'lifetimes'>): number {
  return startedAt + lifetimes.mostWaitMs;
}

/** Promise.withResolvers, which Node 20 does not have. */
function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
