/**
 * Loads in flight in this isolate, and who may share them.
 *
 *   Rule 6  A caller joins a load only if its own MGET showed the very fences and the epoch that the load is stamped with.
 *
 * Why that is enough: the fences stood when the load began and still stood at the caller's MGET, so no invalidation was
 * acknowledged in between, and the load's snapshot is as new as anything the caller could rely on. Sharing by key alone is
 * wrong: a caller that starts after a write was acknowledged would get the row from before it.
 *
 * Further conditions: the load was not given up by all who waited for it, the same identity (a refusal is one caller's, not the next one's), and, while no heartbeat bounds
 * staleness, a load whose tolerance of old entries is no larger than the caller's.
 */
import type { Stamp } from './envelope.ts';
import type { Lifetimes, Plan } from './settings.ts';
import { type KeyState, sameTexts } from './snapshot.ts';

export type Settled =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly error: unknown };

/** What several flights of one loader call have in common: it is aborted when nobody waits for any of them. */
export class Crew {
  readonly #controller = new AbortController();
  #waiting = 0;

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  join(): void {
    this.#waiting++;
  }

  leave(reason: unknown): void {
    if (--this.#waiting === 0) this.#controller.abort(reason);
  }
}

/** One key on its way. */
export interface Flight {
  readonly plan: Plan;
  readonly lifetimes: Lifetimes;
  readonly identity: string | undefined;
  readonly crew: Crew;
  /** Fences, epoch and time taken before the load; null: nothing may be stored or shared. */
  stamp: Stamp | null;
  /** Whether the fences were found rather than made. */
  renew: boolean;
  /** Whether this isolate holds the key's lease. */
  leased: boolean;
  readonly settled: Promise<Settled>;
  readonly settle: (outcome: Settled) => void;
}

export function newFlight(fields: Omit<Flight, 'settled' | 'settle'>): Flight {
  const { promise, resolve } = withResolvers<Settled>();
  return { ...fields, settled: promise, settle: resolve };
}

export class Flights {
  readonly #byKey = new Map<string, Flight[]>();
  readonly #preparing = new Map<string, Promise<unknown>>();

  /** Makes a flight joinable until it has settled. */
  register(flight: Flight): void {
    const { key } = flight.plan;
    this.#byKey.set(key, [...(this.#byKey.get(key) ?? []), flight]);
    void flight.settled.then(() => {
      const left = (this.#byKey.get(key) ?? []).filter((other) => other !== flight);
      if (left.length > 0) this.#byKey.set(key, left);
      else this.#byKey.delete(key);
    });
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
          !flight.crew.signal.aborted &&
          flight.identity === identity &&
          flight.stamp.epoch === epoch &&
          sameTexts(flight.stamp.fences, fences) &&
          (epoch !== null ||
            (lifetimes.degradedMs > 0 && flight.lifetimes.degradedMs <= lifetimes.degradedMs)),
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

  /** Settles when the preparation of a key that is under way here is over; undefined when there is none. */
  preparing(key: string): Promise<unknown> | undefined {
    return this.#preparing.get(key);
  }

  /** Whether anything is in flight for a key; a second lease would then only be in the way of its owner. */
  has(key: string): boolean {
    return this.#byKey.has(key);
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
