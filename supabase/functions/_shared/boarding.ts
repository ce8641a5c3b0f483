/**
 * From a read to flights: every key of a call is answered from its entry, or finds or starts the flight that will answer it.
 * The states that a key passes through are drawn in read-through.ts.
 */
import { Crew, type Flight, newFlight } from './flights.ts';
import { prepare, releaseLeases } from './lease.ts';
import type { Core, Driven, LoadMany } from './loading.ts';
import type { GetOrSetOptions, Lifetimes, Outcome, Plan } from './settings.ts';
import { judge, type KeyState, readStates, standing } from './snapshot.ts';
import { longestMs } from './store.ts';

/** How often a call looks again because somebody in this isolate is just preparing the same key. */
const LOOKS_BEFORE_CROWDING = 3;

/** What a call of getOrSet asks for. */
export interface Call {
  readonly load: LoadMany;
  /** Seconds; undefined: each key's own. */
  readonly ttl: number | undefined;
  readonly options: GetOrSetOptions;
}

/** A key and how long its answers may be used. */
export interface Wanted {
  readonly plan: Plan;
  readonly lifetimes: Lifetimes;
}

export interface Pending extends Wanted {
  readonly state: KeyState;
}

/** Where the keys of a call stand: answered, or on a flight. */
export class Boarding {
  readonly #core: Core;
  readonly #call: Call;
  readonly #refreshing: boolean;
  #crew: Crew | undefined;
  readonly answers = new Map<string, unknown>();
  /** Stale answers to give if the loader fails. */
  readonly fallbacks = new Map<string, unknown>();
  /** Stale answers that were given, to be loaded anew in the background. */
  readonly refreshes: Pending[] = [];
  /** Flights of other callers, whose values are theirs too. */
  readonly joined: Flight[] = [];
  /** Flights that this call has to drive. */
  readonly own: Driven[] = [];

  /** @param refreshing behind a stale answer: nothing but a fresh entry will do, and nobody is told of misses */
  constructor(core: Core, call: Call, refreshing = false) {
    this.#core = core;
    this.#call = call;
    this.#refreshing = refreshing;
  }

  /** Reads all keys and boards what misses. */
  async look(plans: readonly Wanted[]): Promise<this> {
    const { access, flights, runtime } = this.#core;
    let wanted = plans;
    for (let attempt = 0; wanted.length > 0; attempt++) {
      const startedAt = runtime.now();
      const states = await readStates(
        access,
        wanted.map(({ plan }) => plan),
      );
      if (states === null) return this.loadUncached(wanted, 'disabled');
      const missing: Pending[] = [];
      const busy: Wanted[] = [];
      for (const [index, want] of wanted.entries()) {
        const state = states[index];
        if (state === undefined || this.#answer({ ...want, state }, startedAt)) continue;
        const { plan, lifetimes } = want;
        // Nothing may be kept of what must not be served without a heartbeat, so there is nothing to prepare either.
        if (state.epoch === null && lifetimes.degradedMs === 0) {
          this.loadUncached([want], 'miss');
          continue;
        }
        const joinable = flights.joinable(state, lifetimes, this.#call.options.identity);
        if (joinable !== undefined) {
          this.#join(joinable);
          continue;
        }
        const crowded = attempt >= LOOKS_BEFORE_CROWDING || flights.preparing(plan.key) === undefined;
        if (crowded) missing.push({ ...want, state });
        else busy.push(want);
      }
      // Somebody here is making their fences. They are joined only after another MGET: this one may be the older.
      const prepared = Promise.all(busy.map(({ plan }) => flights.preparing(plan.key)));
      if (missing.length > 0) await this.board(missing);
      await prepared;
      wanted = busy;
    }
    return this;
  }

  /** Makes missing fences and asks for leases, then joins or starts a flight for every key. */
  async board(missing: readonly Pending[]): Promise<void> {
    const { access, flights, runtime, settings } = this.#core;
    const startedAt = runtime.now();
    const preparation = prepare(
      access,
      runtime,
      missing.map(({ plan, lifetimes, state: { fences } }) => {
        // A lease that is wanted while something is in flight here would only be in its own way.
        return { plan, fences, longestMs: longestMs(lifetimes), claim: !flights.has(plan.key) };
      }),
      settings.leaseMs,
    );
    const prepared = await flights.prepare(
      missing.map(({ plan }) => plan.key),
      preparation,
    );
    const unneeded: string[] = [];
    missing.forEach((pending, index) => {
      const { state, won = false } = prepared?.[index] ?? {};
      if (state !== undefined && this.#answer({ ...pending, state }, startedAt)) {
        if (won) unneeded.push(pending.plan.key);
      } else this.#take(pending, state, won);
    });
    if (unneeded.length > 0) runtime.background(releaseLeases(access, unneeded));
  }

  /** Keys that are loaded without storing anything. */
  loadUncached(wanted: readonly Wanted[], outcome: Outcome): this {
    for (const { plan, lifetimes } of wanted) {
      this.#report(plan, outcome, 0);
      this.#startPrivate(plan, lifetimes);
    }
    return this;
  }

  /** Answers from the entry if it may be used; otherwise keeps it where it may still serve if the loader fails. */
  #answer(pending: Pending, startedAt: number): boolean {
    const { plan, lifetimes, state } = pending;
    const now = this.#core.runtime.now();
    const hit = judge(state, lifetimes, now);
    if (hit === null) return false;
    const late = hit.staleFor;
    if (this.#refreshing && late !== null) return false;
    if (late === null || late < lifetimes.revalidateMs) {
      this.answers.set(plan.key, hit.value);
      this.#report(plan, late === null ? 'hit' : 'stale', now - startedAt);
      if (late !== null) this.refreshes.push(pending);
      return true;
    }
    if (late < lifetimes.errorMs) this.fallbacks.set(plan.key, hit.value);
    return false;
  }

  #take({ plan, lifetimes, state: before }: Pending, state: KeyState | undefined, won: boolean): void {
    const { flights, runtime, settings } = this.#core;
    const { identity } = this.#call.options;
    if (state === undefined || !standing(state.fences)) {
      this.#report(plan, 'miss', 0);
      this.#startPrivate(plan, lifetimes, won);
      return;
    }
    // Who holds the lease loads: a flight in the same isolate may be waiting for this very lease.
    const joinable = won ? undefined : flights.joinable(state, lifetimes, identity);
    if (joinable !== undefined) {
      this.#join(joinable);
      return;
    }
    this.#report(plan, 'miss', 0);
    const stamp = { fences: state.fences, epoch: state.epoch, loadedAt: runtime.now() };
    const renew = before.fences.slice(1, -1).some((fence) => fence !== null);
    const flight = newFlight({ plan, lifetimes, identity, crew: this.#ownCrew(), stamp, renew, leased: won });
    flights.register(flight);
    this.own.push({ flight, waits: !won && settings.leaseMs > 0 });
  }

  #join(flight: Flight): void {
    this.#report(flight.plan, 'miss', 0);
    this.joined.push(flight);
  }

  /** A flight that nobody joins and whose value is not stored. */
  #startPrivate(plan: Plan, lifetimes: Lifetimes, leased = false): void {
    const secluded = { identity: undefined, crew: this.#ownCrew(), stamp: null, renew: false };
    const flight = newFlight({ plan, lifetimes, ...secluded, leased });
    this.own.push({ flight, waits: false });
  }

  /** One loader call loads for all flights of this call; most calls are hits and have none. */
  #ownCrew(): Crew {
    this.#crew ??= new Crew();
    return this.#crew;
  }

  #report(plan: Plan, outcome: Outcome, milliseconds: number): void {
    if (this.#refreshing) return;
    this.#core.observe(plan, outcome, milliseconds);
    try {
      this.#call.options.onOutcome?.(plan.key, outcome);
    } catch {
      // The caller's telemetry; were it to throw here, flights would be left that nobody drives.
    }
  }
}
