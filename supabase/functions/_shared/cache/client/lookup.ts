/**
 * From a read to loads: each key of a call is answered from its entry, or joins a load in progress, or gets a load of its own.
 * get-or-set.ts draws the states that a key passes through.
 */
import type { Envelope } from '../protocol/entry.ts';
import type { Plan } from '../protocol/fences.ts';
import { type Hit, sameTexts } from '../protocol/key-state.ts';
import type { Call, ReadKey, WantedKey } from './call.ts';
import { type PreparedKey, prepare, readStates } from './key-states.ts';
import { type Lease, releaseLeases } from './lease.ts';
import type { Core } from './loader.ts';
import type { LocalLevel, LocalReading } from './local-level.ts';
import { callHook, type Lifetimes, type Outcome, typeName } from './options.ts';
import { type KeyLoad, newKeyLoad, Waiters } from './single-flight.ts';
import { longestMs } from './store.ts';

/** How often a call reads again because another call in this isolate is preparing the same key. */
const MOST_REREADS = 3;

/** Where the keys of one call stand: answered, or being loaded. */
export class Lookup {
  readonly #core: Core;
  readonly #call: Call;
  readonly #refreshing: boolean;
  /** Of the loads that this call starts. */
  #ownWaiters: Waiters | undefined;
  /** All groups of waiters in which this caller counts. */
  readonly #waiters = new Set<Waiters>();
  readonly answers = new Map<string, unknown>();
  /** Stale entries that may answer if the loader fails. */
  readonly fallbacks: Map<string, ReadKey>;
  /** Stale answers that were given, to be loaded anew in the background. */
  readonly refreshes: ReadKey[] = [];
  /** Loads of other callers, whose values answer this call too. */
  readonly joined: KeyLoad[] = [];
  /** Loads that this call has to carry out. */
  readonly own: KeyLoad[] = [];

  /** @param refreshing this is the load behind a stale answer: only a fresh entry answers, and no hook is called */
  constructor(core: Core, call: Call, refreshing = false) {
    this.#core = core;
    this.#call = call;
    this.#refreshing = refreshing;
    this.fallbacks = new Map(call.fallbacks);
  }

  /** All loads that this caller waits for. */
  get loads(): readonly KeyLoad[] {
    return [...this.joined, ...this.own];
  }

  /**
   * The answer to give when the load of a key fails: the entry that was past its time, or a newer one. One MGET looks at it again, since
   * time has passed, and it may have been invalidated. Null while Redis is away.
   */
  async fallbackFor({ plan }: KeyLoad): Promise<Hit | null> {
    const kept = this.fallbacks.get(plan.key);
    if (kept === undefined) return null;
    const [state] = (await readStates(this.#core, [plan])) ?? [];
    if (state === undefined) return null;
    const judged = this.#core.judge(state, kept.lifetimes.degradedMs, this.#core.runtime.now());
    return judged.hit && (judged.staleFor ?? 0) < kept.lifetimes.errorMs ? judged : null;
  }

  /** This caller has its answers. */
  finish(): void {
    for (const waiters of this.#waiters) waiters.finish();
    this.#waiters.clear();
  }

  /** This caller gives up; a load that nobody waits for any more is aborted. */
  leave(reason: unknown): void {
    for (const waiters of this.#waiters) waiters.leave(reason);
    this.#waiters.clear();
  }

  /** Ends loads that will not be carried out. */
  abandon(error: unknown): void {
    for (const load of this.own) {
      load.settle({ ok: false, error });
      this.#core.singleFlight.close(load);
    }
    this.leave(error);
  }

  /** Reads all keys, and finds or starts a load for each that misses. */
  async read(plans: readonly WantedKey[]): Promise<void> {
    const { local, singleFlight, runtime } = this.#core;
    let wanted = local === null ? plans : plans.filter((want) => !this.#answerFrom(local, want));
    for (let attempt = 0; wanted.length > 0; attempt++) {
      const startedAt = runtime.now();
      const reading = local?.begin();
      const states = await readStates(
        this.#core,
        wanted.map(({ plan }) => plan),
      );
      if (reading !== undefined) local?.answered(reading, states);
      if (states === null) {
        this.loadUncached(wanted, 'disabled');
        return;
      }
      const missing: ReadKey[] = [];
      const busy: WantedKey[] = [];
      for (const [index, want] of wanted.entries()) {
        const state = states[index];
        if (state === undefined) continue;
        const { plan, lifetimes } = want;
        const read = { plan, lifetimes, state };
        if (this.#answer(read, startedAt, reading)) continue;
        // What must not be served without a heartbeat is not stored without one, so there is nothing to prepare.
        if (state.epoch === null && lifetimes.degradedMs === 0) {
          this.loadUncached([want], 'miss');
          continue;
        }
        const joinable = singleFlight.joinable(state, lifetimes, this.#call.options.identity);
        if (joinable !== undefined) {
          this.#join(joinable);
          continue;
        }
        const prepares = attempt >= MOST_REREADS || singleFlight.preparing(plan.key) === undefined;
        if (prepares) missing.push(read);
        else busy.push(want);
      }
      // Another call here is making the fences of these keys. Its load may be joined after one more MGET: this one may be older.
      const preparing = busy.map(({ plan }) => singleFlight.preparing(plan.key));
      if (missing.length > 0) await this.prepareMissing(missing);
      if (preparing.length > 0) await Promise.all(preparing);
      wanted = busy;
    }
  }

  #answerFrom(local: LocalLevel, { plan, lifetimes }: WantedKey): boolean {
    const state = local.find(plan);
    if (state === null) return false;
    const judged = this.#core.judge(state, lifetimes.degradedMs, this.#core.runtime.now());
    if (!judged.hit || judged.staleFor !== null) return false;
    this.answers.set(plan.key, judged.envelope.value);
    this.#report(plan, 'hit', 0);
    return true;
  }

  /** Makes missing fences and asks for leases, then joins or starts a load for every key. */
  async prepareMissing(missing: readonly ReadKey[]): Promise<void> {
    const { access, singleFlight, runtime } = this.#core;
    const startedAt = runtime.now();
    const preparation = prepare(
      this.#core,
      missing.map(({ plan, lifetimes, state }) => {
        const leaseMs = singleFlight.uncacheable.has(plan.key) ? 0 : lifetimes.leaseMs;
        return { state, longestMs: longestMs(lifetimes), leaseMs };
      }),
    );
    const prepared = await singleFlight.prepare(
      missing.map(({ plan }) => plan.key),
      preparation,
    );
    const unneeded: Lease[] = [];
    missing.forEach((miss, index) => {
      const ready = prepared?.[index];
      if (ready?.reread === true && this.#answer({ ...miss, state: ready.state }, startedAt)) return;
      // Without fences nothing could be stored, so behind a stale answer there is no use in loading.
      if (this.#refreshing && !ready?.stamp) {
        if (ready?.lease) unneeded.push(ready.lease);
      } else this.#load(miss, ready);
    });
    if (unneeded.length > 0) runtime.background(releaseLeases(access, runtime, unneeded));
  }

  /** Keys that are loaded without storing anything. */
  loadUncached(wanted: readonly WantedKey[], outcome: Outcome): void {
    for (const { plan, lifetimes } of wanted) this.#loadUncached(plan, lifetimes, outcome, null);
  }

  /** Answers from the entry if it may be used; otherwise keeps it where it may still serve if the loader fails. */
  #answer(read: ReadKey, startedAt: number, reading?: LocalReading): boolean {
    const { plan, lifetimes, state } = read;
    const now = this.#core.runtime.now();
    const judged = this.#core.judge(state, lifetimes.degradedMs, now);
    // An earlier read's fallback may have been invalidated since.
    this.fallbacks.delete(plan.key);
    if (!judged.hit) {
      if (judged.reason === 'other-fences') this.#warnOfOtherDependencies(plan, judged.envelope);
      return false;
    }
    const late = judged.staleFor;
    if (this.#refreshing && late !== null) return false;
    if (late === null || late < lifetimes.revalidateMs) {
      this.answers.set(plan.key, judged.envelope.value);
      this.#report(plan, late === null ? 'hit' : 'stale', now - startedAt);
      if (late !== null) this.refreshes.push(read);
      else if (reading !== undefined) this.#core.local?.fill(reading, state, judged.envelope.freshUntil);
      return true;
    }
    if (late < lifetimes.errorMs) this.fallbacks.set(plan.key, read);
    return false;
  }

  #warnOfOtherDependencies(plan: Plan, envelope: Envelope | null): void {
    if (envelope === null || sameTexts(envelope.dependencies, plan.dependencies)) return;
    const type = typeName(plan);
    this.#core.access.warn(
      `dependencies of ${type}`,
      `callers of one key of type ${type} name different lists in dependsOn; each makes the other's answer a miss and overwrites it. ` +
        'Name the same list at every call.',
    );
  }

  #load({ plan, lifetimes }: WantedKey, ready: PreparedKey | undefined): void {
    const { singleFlight, runtime } = this.#core;
    const lease = ready?.lease ?? null;
    if (!ready?.stamp) {
      this.#loadUncached(plan, lifetimes, 'miss', lease);
      return;
    }
    const { stamp, heldLease } = ready;
    // With the lease in hand this call loads: a load in the same isolate may be waiting for this very lease.
    const { identity, fresh } = this.#call.options;
    const joinable =
      lease === null && fresh !== true
        ? singleFlight.joinable({ plan, ...stamp }, lifetimes, identity)
        : undefined;
    if (joinable !== undefined) {
      this.#join(joinable);
      return;
    }
    this.#report(plan, 'miss', 0);
    const load = this.#newLoad(plan, lifetimes, {
      stamp: { ...stamp, loadedAt: runtime.now() },
      lease,
      heldLease,
      waitsUntil: heldLease === null ? null : runtime.monotonic() + lifetimes.waitMs,
    });
    singleFlight.register(load);
    this.own.push(load);
  }

  #join(load: KeyLoad, outcome: Outcome = 'miss'): void {
    // Another call is loading this key already.
    if (this.#refreshing) return;
    this.#waitFor(load.waiters);
    this.joined.push(load);
    this.#report(load.plan, outcome, 0);
  }

  /** A load whose value is not stored, and which others join only before it begins. */
  #loadUncached(plan: Plan, lifetimes: Lifetimes, outcome: Outcome, lease: Lease | null): void {
    const { singleFlight } = this.#core;
    const shared = outcome !== 'bypass';
    const collecting =
      shared && lease === null ? singleFlight.collecting(plan.key, this.#call.options.identity) : undefined;
    if (collecting !== undefined) {
      collecting.replaces ||= this.#call.options.fresh === true;
      this.#join(collecting, outcome);
      return;
    }
    const load = this.#newLoad(plan, lifetimes, {
      stamp: null,
      lease,
      heldLease: null,
      waitsUntil: null,
    });
    if (shared) singleFlight.collect(load);
    this.own.push(load);
    this.#report(plan, outcome, 0);
  }

  /** One loader call serves all loads of this call, so they have the same waiters; most calls are hits and have none. */
  #newLoad(
    plan: Plan,
    lifetimes: Lifetimes,
    state: Pick<KeyLoad, 'stamp' | 'lease' | 'heldLease' | 'waitsUntil'>,
  ): KeyLoad {
    this.#ownWaiters ??= new Waiters();
    this.#waitFor(this.#ownWaiters);
    const startedAt = this.#core.runtime.monotonic();
    const { identity, fresh, bypass } = this.#call.options;
    const replaces = fresh === true && bypass !== true;
    return newKeyLoad({
      plan,
      lifetimes,
      identity,
      replaces,
      waiters: this.#ownWaiters,
      startedAt,
      heldBy: null,
      ...state,
    });
  }

  #waitFor(waiters: Waiters): void {
    if (this.#waiters.has(waiters)) return;
    this.#waiters.add(waiters);
    waiters.join();
  }

  #report(plan: Plan, outcome: Outcome, milliseconds: number): void {
    if (this.#refreshing) return;
    this.#core.observe(plan, outcome, milliseconds);
    callHook(this.#call.options.onOutcome, plan.key, outcome);
  }
}
