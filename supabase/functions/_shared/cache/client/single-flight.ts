/**
 * Loads in flight in this isolate, and who may share them.
 *
 *   Rule 6  A caller joins a load only if its own MGET showed the very fences and the epoch that the load is stamped with,
 *           or if the load has not begun yet.
 *
 * Why that is enough: the fences stood when the load began and still stood at the caller's MGET, so no invalidation was
 * acknowledged in between, and the load's snapshot is as new as anything the caller could rely on. Sharing by key alone is
 * wrong: a caller that starts after a write was acknowledged would get the row from before it. Without fences (Redis is
 * away) only a load that begins after all of its callers have asked is as new as each of them may expect: such a
 * flight gathers callers for the moment before its load begins, and nobody after that.
 *
 * Further conditions: the load was not given up by all who waited for it, nor is it overdue; the same identity (a refusal is
 * one caller's, not the next one's); and, while no heartbeat bounds staleness, a load that began no longer ago than the
 * caller accepts of an entry, and whose own tolerance of old entries is no larger than the caller's. Nor does a caller join
 * a flight that leaves the load to another isolate for longer than the caller's own `timeout` allows: it may be waiting for
 * somebody who died.
 */
import type { Stamp } from '../protocol/entry.ts';
import type { Plan } from '../protocol/fences.ts';
import { type KeyState, sameTexts, timely } from '../protocol/key-state.ts';
import type { Runtime } from '../redis/runtime.ts';
import type { Lifetimes } from './options.ts';
import { UnkeptKeys } from './uncacheable-keys.ts';

/**
 * A load that takes longer than this may never end, so nobody joins it any more, and who has joined it starts over.
 * (That also frees a loader that asks for its own key, and so waits for itself.)
 */
export const OVERDUE_MS = 30_000;

export type Settled =
  /** `sharable`: JSON keeps the value, so that others may have a copy of it. */
  | { readonly ok: true; readonly value: unknown; readonly sharable: boolean }
  | { readonly ok: false; readonly error: unknown };

/** What several flights of one loader call have in common: it is aborted when nobody waits for any of them. */
export class Crew {
  readonly #controller = new AbortController();
  #waiting = 0;
  #unsettled = 0;
  #reason: unknown;
  /** Not listeners of the signal: a batch has many flights, and Node takes more than ten for a leak. */
  readonly #landings: (() => void)[] = [];

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  join(): void {
    this.#waiting++;
  }

  /** One caller has all it waited for; what others of this crew's callers have given up may still be under way. */
  finish(): void {
    if (--this.#waiting === 0 && this.#unsettled > 0) this.#abort(this.#reason);
  }

  /** One caller gives up. */
  leave(reason: unknown): void {
    this.#reason = reason;
    if (--this.#waiting === 0) this.#abort(reason);
  }

  /** Calls back when the load is given up. */
  whenAborted(land: () => void): void {
    this.#landings.push(land);
  }

  #abort(reason: unknown): void {
    this.#controller.abort(reason);
    for (const land of this.#landings.splice(0)) land();
  }

  /** One more flight is under way, until it has settled. */
  add(settled: Promise<Settled>): void {
    this.#unsettled++;
    void settled.then(() => {
      this.#unsettled--;
    });
  }
}

/** One key on its way. */
export interface Flight {
  readonly plan: Plan;
  readonly lifetimes: Lifetimes;
  readonly identity: string | undefined;
  readonly crew: Crew;
  /** By the monotonic clock. */
  readonly startedAt: number;
  /** Fences and epoch taken before the load, and when it began (before that: no later than it will); null: nothing may be stored. */
  stamp: Stamp | null;
  /** What its driver's last MGET showed; null: it made none. Newer than the stamp while another isolate's load is waited for. */
  seen: Pick<KeyState, 'fences' | 'epoch'> | null;
  /** The fences that were found rather than made, and so have to be kept alive. */
  renew: readonly string[];
  /** Until when the key's lease is ours to give back (see lease.ts); null when it is not ours. */
  leasedUntil: number | null;
  /** By the monotonic clock: until when the load is left to another isolate; null: not, or no longer. */
  waitsUntil: number | null;
  readonly settled: Promise<Settled>;
  readonly settle: (outcome: Settled) => void;
}

export function newFlight(fields: Omit<Flight, 'settled' | 'settle'>): Flight {
  const { promise, resolve } = withResolvers<Settled>();
  // Before anybody can wait for it: who finishes when it has settled finds it counted so.
  fields.crew.add(promise);
  return { ...fields, settled: promise, settle: resolve };
}

export class Flights {
  readonly #runtime: Runtime;
  /** Keys whose loads need not wait for each other. */
  readonly unkept: UnkeptKeys;
  readonly #byKey = new Map<string, Flight[]>();
  readonly #gathering = new Map<string, Flight>();
  readonly #preparing = new Map<string, Promise<unknown>>();

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
    this.unkept = new UnkeptKeys(runtime);
  }

  /** How many flights and preparations there are; 0 when nobody waits for anything. */
  get size(): number {
    return this.#byKey.size + this.#gathering.size + this.#preparing.size;
  }

  /** Makes a flight joinable until it has settled or was given up. */
  register(flight: Flight): void {
    const { key } = flight.plan;
    this.#byKey.set(key, [...(this.#byKey.get(key) ?? []), flight]);
    const land = (): void => {
      const left = (this.#byKey.get(key) ?? []).filter((other) => other !== flight);
      if (left.length > 0) this.#byKey.set(key, left);
      else this.#byKey.delete(key);
    };
    void flight.settled.then(land);
    flight.crew.whenAborted(land);
  }

  /** Makes a flight without fences joinable until its load begins. */
  gather(flight: Flight): void {
    this.#gathering.set(flight.plan.key, flight);
  }

  /** Its load begins, or it was given up: who comes now comes too late. */
  depart(flight: Flight): void {
    if (this.#gathering.get(flight.plan.key) === flight) this.#gathering.delete(flight.plan.key);
  }

  /** The flight without fences whose load has not begun yet. */
  gathering(key: string, identity: string | undefined): Flight | undefined {
    const flight = this.#gathering.get(key);
    if (flight === undefined || flight.identity !== identity || !this.#isLive(flight)) return undefined;
    return flight;
  }

  /** The flight that a caller in this state may join. */
  joinable(
    { plan, fences, epoch }: Pick<KeyState, 'plan' | 'fences' | 'epoch'>,
    lifetimes: Lifetimes,
    identity: string | undefined,
  ): Flight | undefined {
    return this.#byKey
      .get(plan.key)
      ?.find(
        (flight) =>
          flight.stamp !== null &&
          this.#isLive(flight) &&
          flight.identity === identity &&
          (flight.waitsUntil ?? 0) <= this.#runtime.monotonic() + lifetimes.waitMs &&
          flight.stamp.epoch === epoch &&
          sameTexts(flight.stamp.fences, fences) &&
          timely(flight.stamp, epoch, lifetimes.degradedMs, this.#runtime.now()) &&
          (epoch !== null || flight.lifetimes.degradedMs <= lifetimes.degradedMs),
      );
  }

  /**
   * Takes the lease of a load here whose answer this caller could not use, since its fences have gone or it began too long
   * ago. What that load stores helps nobody, so the lease is better with the caller's own. Null: there is none to take.
   */
  takeLease({ plan, fences, epoch }: KeyState, { degradedMs }: Lifetimes): number | null {
    const now = this.#runtime.now();
    for (const flight of this.#byKey.get(plan.key) ?? []) {
      const { stamp, leasedUntil } = flight;
      if (leasedUntil === null) continue;
      if (stamp !== null && sameTexts(stamp.fences, fences) && timely(stamp, epoch, degradedMs, now))
        continue;
      flight.leasedUntil = null;
      return leasedUntil;
    }
    return null;
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

  /** Settles when the preparation of a key that is under way here is over; undefined when there is none. */
  preparing(key: string): Promise<unknown> | undefined {
    return this.#preparing.get(key);
  }

  /** Whether anything is in flight for a key; a second lease would then only be in the way of its owner. */
  has(key: string): boolean {
    return this.#byKey.get(key)?.some((flight) => this.#isLive(flight)) ?? false;
  }

  /** Milliseconds until a flight is overdue. */
  patienceFor({ startedAt }: Flight): number {
    return startedAt + OVERDUE_MS - this.#runtime.monotonic();
  }

  #isLive(flight: Flight): boolean {
    return !flight.crew.signal.aborted && this.patienceFor(flight) > 0;
  }
}

/** Promise.withResolvers, which Node 20 does not have. */
function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => {};
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
