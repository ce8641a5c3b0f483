/**
 * From a read to flights: every key of a call is answered from its entry, or finds or starts the flight that will answer it.
 * The states that a key passes through are drawn in read-through.ts.
 */

import type { Plan } from '../protocol/fences.ts';
import { type Hit, judge, type KeyState, standing } from '../protocol/key-state.ts';
import { tell } from './hooks.ts';
import { prepare, readStates, renewable } from './key-states.ts';
import { type Lease, releaseLeases } from './lease.ts';
import type { Core, LoadMany } from './loader.ts';
import type { GetOrSetOptions, Lifetimes, Outcome } from './options.ts';
import { Crew, type Flight, newFlight } from './single-flight.ts';
import { longestMs } from './store.ts';

/** How often a call looks again because somebody in this isolate is just preparing the same key. */
const LOOKS_BEFORE_CROWDING = 3;

/** What a call of getOrSet asks for. */
export interface Call {
  readonly load: LoadMany;
  /** Seconds; undefined: each key's own. */
  readonly ttl: number | undefined;
  readonly options: GetOrSetOptions;
  /** What a first attempt has kept for the case that the loader fails. */
  readonly fallbacks?: ReadonlyMap<string, Pending>;
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
  /** The crews in which this caller counts. */
  readonly #crews = new Set<Crew>();
  readonly answers = new Map<string, unknown>();
  /** Stale entries that may answer if the loader fails. */
  readonly fallbacks: Map<string, Pending>;
  /** Stale answers that were given, to be loaded anew in the background. */
  readonly refreshes: Pending[] = [];
  /** Flights of other callers, whose values are theirs too. */
  readonly joined: Flight[] = [];
  /** Flights that this call has to drive. */
  readonly own: Flight[] = [];

  /** @param refreshing behind a stale answer: nothing but a fresh entry will do, and nobody is told of misses */
  constructor(core: Core, call: Call, refreshing = false) {
    this.#core = core;
    this.#call = call;
    this.#refreshing = refreshing;
    this.fallbacks = new Map(call.fallbacks);
  }

  /** All flights that this caller waits for. */
  get flights(): readonly Flight[] {
    return [...this.joined, ...this.own];
  }

  /** The stale answer to give when this flight fails: judged anew, since time has passed, and fences may have gone. */
  fallbackFor({ plan, seen }: Flight): Hit | null {
    const kept = this.fallbacks.get(plan.key);
    if (kept === undefined) return null;
    const { state, lifetimes } = kept;
    const latest = seen === null ? state : { ...state, fences: seen.fences, epoch: seen.epoch };
    const judged = judge(latest, lifetimes.degradedMs, this.#core.runtime.now());
    return judged.hit && (judged.staleFor ?? 0) < lifetimes.errorMs ? judged : null;
  }

  /** This caller has its answers. */
  finish(): void {
    for (const crew of this.#crews) crew.finish();
    this.#crews.clear();
  }

  /** This caller gives up; a load that nobody waits for any more is aborted. */
  leave(reason: unknown): void {
    for (const crew of this.#crews) crew.leave(reason);
    this.#crews.clear();
  }

  /** Ends flights that will not be driven. */
  abandon(error: unknown): void {
    for (const flight of this.own) {
      flight.settle({ ok: false, error });
      this.#core.flights.depart(flight);
    }
    this.leave(error);
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
    const { access, flights, runtime } = this.#core;
    const startedAt = runtime.now();
    const preparation = prepare(
      access,
      runtime,
      missing.map(({ plan, lifetimes, state: { fences } }) => {
        // A lease that is wanted while something is in flight here would only be in its own way.
        const leaseMs = flights.has(plan.key) || flights.unkept.has(plan.key) ? 0 : lifetimes.leaseMs;
        return { plan, fences, longestMs: longestMs(lifetimes), leaseMs };
      }),
    );
    const prepared = await flights.prepare(
      missing.map(({ plan }) => plan.key),
      preparation,
    );
    const unneeded: Lease[] = [];
    missing.forEach((pending, index) => {
      const { state, leasedUntil = null } = prepared?.[index] ?? {};
      const answered = state !== undefined && this.#answer({ ...pending, state }, startedAt);
      // Without fences nothing could be stored, so behind a stale answer there is no use in loading.
      if (answered || (this.#refreshing && !(state !== undefined && standing(state.fences)))) {
        if (leasedUntil !== null) unneeded.push({ key: pending.plan.key, leasedUntil });
      } else this.#take(pending, state, leasedUntil);
    });
    if (unneeded.length > 0) runtime.background(releaseLeases(access, runtime, unneeded));
  }

  /** Keys that are loaded without storing anything. */
  loadUncached(wanted: readonly Wanted[], outcome: Outcome): this {
    for (const { plan, lifetimes } of wanted) this.#takeUncached(plan, lifetimes, outcome, null);
    return this;
  }

  /** Answers from the entry if it may be used; otherwise keeps it where it may still serve if the loader fails. */
  #answer(pending: Pending, startedAt: number): boolean {
    const { plan, lifetimes, state } = pending;
    const now = this.#core.runtime.now();
    const judged = judge(state, lifetimes.degradedMs, now);
    // What an earlier look has kept may have been invalidated since.
    this.fallbacks.delete(plan.key);
    if (!judged.hit) return false;
    const late = judged.staleFor;
    if (this.#refreshing && late !== null) return false;
    if (late === null || late < lifetimes.revalidateMs) {
      this.answers.set(plan.key, judged.envelope.value);
      this.#report(plan, late === null ? 'hit' : 'stale', now - startedAt);
      if (late !== null) this.refreshes.push(pending);
      return true;
    }
    if (late < lifetimes.errorMs) this.fallbacks.set(plan.key, pending);
    return false;
  }

  #take(
    { plan, lifetimes, state: before }: Pending,
    state: KeyState | undefined,
    leasedUntil: number | null,
  ): void {
    const { flights, runtime } = this.#core;
    const { identity } = this.#call.options;
    if (state === undefined || !standing(state.fences)) {
      this.#takeUncached(plan, lifetimes, 'miss', leasedUntil);
      return;
    }
    // Who holds the lease loads: a flight in the same isolate may be waiting for this very lease.
    const joinable = leasedUntil === null ? flights.joinable(state, lifetimes, identity) : undefined;
    if (joinable !== undefined) {
      this.#join(joinable);
      return;
    }
    this.#report(plan, 'miss', 0);
    const stamp = { fences: state.fences, epoch: state.epoch, loadedAt: runtime.now() };
    const renew = renewable(plan, before.fences);
    const lease = leasedUntil ?? flights.takeLease(state, lifetimes);
    const waits = lease === null && lifetimes.leaseMs > 0 && !flights.unkept.has(plan.key);
    const waitsUntil = waits ? runtime.monotonic() + lifetimes.waitMs : null;
    const flight = this.#newFlight(plan, lifetimes, {
      stamp,
      seen: state,
      renew,
      leasedUntil: lease,
      waitsUntil,
    });
    flights.register(flight);
    this.own.push(flight);
  }

  #join(flight: Flight, outcome: Outcome = 'miss'): void {
    // Somebody is loading what the refresh is after.
    if (this.#refreshing) return;
    this.#enlist(flight.crew);
    this.joined.push(flight);
    this.#report(flight.plan, outcome, 0);
  }

  /** A flight whose value is not stored, and which others join only before its load begins. */
  #takeUncached(plan: Plan, lifetimes: Lifetimes, outcome: Outcome, leasedUntil: number | null): void {
    const { flights } = this.#core;
    const shared = outcome !== 'bypass';
    const gathering =
      shared && leasedUntil === null ? flights.gathering(plan.key, this.#call.options.identity) : undefined;
    if (gathering !== undefined) {
      this.#join(gathering, outcome);
      return;
    }
    const state = { stamp: null, seen: null, renew: [], leasedUntil, waitsUntil: null };
    const flight = this.#newFlight(plan, lifetimes, state);
    if (shared) flights.gather(flight);
    this.own.push(flight);
    this.#report(plan, outcome, 0);
  }

  /** One loader call loads for all flights of this call; most calls are hits and have none. */
  #newFlight(
    plan: Plan,
    lifetimes: Lifetimes,
    state: Pick<Flight, 'stamp' | 'seen' | 'renew' | 'leasedUntil' | 'waitsUntil'>,
  ): Flight {
    this.#crew ??= new Crew();
    this.#enlist(this.#crew);
    const startedAt = this.#core.runtime.monotonic();
    const { identity } = this.#call.options;
    return newFlight({ plan, lifetimes, identity, crew: this.#crew, startedAt, ...state });
  }

  #enlist(crew: Crew): void {
    if (this.#crews.has(crew)) return;
    this.#crews.add(crew);
    crew.join();
  }

  #report(plan: Plan, outcome: Outcome, milliseconds: number): void {
    if (this.#refreshing) return;
    this.#core.observe(plan, outcome, milliseconds);
    tell(this.#call.options.onOutcome, plan.key, outcome);
  }
}
