/** get, set and begin: reading without loading, and storing what was loaded elsewhere (rule 8, see recent-reads.ts). */

import { isStampOrNull, type VersionStamp } from '../protocol/entry.ts';
import { CacheError } from '../protocol/errors.ts';
import type { Plan } from '../protocol/fences.ts';
import { allExist, type Hit, isCurrent, type KeyState, sameTexts } from '../protocol/key-state.ts';
import type { Time } from '../protocol/times.ts';
import { prepare, readStates } from './key-states.ts';
import type { Core } from './loader.ts';
import { type Lifetimes, lifetimesOf, typeName } from './options.ts';
import { longestMs, store } from './store.ts';
import { UnsupportedValue } from './values.ts';

/** What `begin` gives for `set`: the fences of one key as they stood before a load. Opaque. */
export interface LoadToken {
  readonly key: string;
  /** Null when Redis could not be asked; then the set is skipped. */
  readonly stamp: VersionStamp | null;
}

export class GetAndSet {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  /** The cached values of those keys that hit. All are remembered for `set`; what misses gets fences that stand from then on. */
  async read(plans: readonly Plan[]): Promise<Map<string, unknown>> {
    const { access, local, recentReads, runtime, settings } = this.#core;
    const reading = recentReads.begin();
    try {
      const startedAt = runtime.now();
      const found = new Map<string, unknown>();
      const answer = (state: KeyState): Hit | null => {
        const { plan, fences, epoch } = state;
        const now = runtime.now();
        const judged = this.#core.judge(state, lifetimesOf(plan, settings, undefined).degradedMs, now);
        if (!judged.hit || judged.staleFor !== null) return null;
        found.set(plan.key, judged.envelope.value);
        this.#core.observe(plan, 'hit', now - startedAt);
        if (allExist(fences)) recentReads.remember(plan, { fences, epoch, loadedAt: now }, reading);
        return judged;
      };
      const asked = plans.filter((plan) => {
        const state = local?.find(plan) ?? null;
        return state === null || answer(state) === null;
      });
      const localReading = local?.begin();
      const states = await readStates(this.#core, asked);
      if (localReading !== undefined) local?.answered(localReading, states);
      if (states === null) {
        // The load that follows has no fences, so a set that follows it must not find any.
        if (access.enabled) for (const plan of asked) recentReads.remember(plan, null, reading);
        return found;
      }
      const missing = states.filter((state) => {
        const hit = answer(state);
        if (hit === null) this.#core.observe(state.plan, 'miss', 0);
        else if (localReading !== undefined) local?.fill(localReading, state, hit.envelope.freshUntil);
        return hit === null;
      });
      const stamps = await this.#stampsFor(missing, undefined);
      missing.forEach(({ plan }, index) => {
        recentReads.remember(plan, stamps[index] ?? null, reading);
      });
      return found;
    } finally {
      reading.end();
    }
  }

  /** The fences of a key as they stand now, for a load that begins after this. */
  async begin(plan: Plan): Promise<LoadToken> {
    const { recentReads } = this.#core;
    const reading = recentReads.begin();
    try {
      const stamp = await this.#currentStamp(plan, undefined);
      if (stamp !== null) recentReads.rememberToken(plan, stamp, reading);
      return { key: plan.key, stamp };
    } finally {
      reading.end();
    }
  }

  /**
   * Stores a value under the token's fences, else under remembered ones, else under the current ones. What stores nothing deletes the
   * entry, so that no older value answers; but not where the value may itself be older than what can be read.
   */
  async set(
    plan: Plan,
    value: unknown,
    ttl: Time | undefined,
    token: LoadToken | undefined,
  ): Promise<boolean> {
    const { key } = plan;
    if (token !== undefined && !(token?.key === key && isStampOrNull(token.stamp))) {
      throw new CacheError('TOKEN_MISMATCH', 'The token is none that begin() gave out for this key.');
    }
    const { settings, values } = this.#core;
    const lifetimes = lifetimesOf(plan, settings, ttl);
    const encoded = values.encode(value);
    const kept = encoded instanceof UnsupportedValue ? null : encoded;
    const stamp = await this.#stampFor(plan, ttl, lifetimes, token);
    const item = { plan, encoded: kept, lifetimes, lease: null, replaces: true };
    const isStored = stamp !== 'dead' && (await store(this.#core, [{ ...item, stamp }])).stored.has(key);
    if (encoded instanceof UnsupportedValue) throw encoded;
    if (stamp === 'dead')
      this.#warn(
        plan,
        'the key was invalidated since the get or begin before it, and the value may have been loaded before that',
      );
    return isStored;
  }

  #warn(plan: Plan, reason: string): void {
    const type = typeName(plan);
    this.#core.access.warn(
      `set of ${type}`,
      `a set of type ${type} stored nothing: ${reason}. Take a token with begin(key) before the load, and give it to set.`,
    );
  }

  /**
   * What a set stores its value under; null where that could not be read. Redis is asked once more about a token that is not remembered
   * any more, where the first level in process may have answered the get, and where no worker was alive: one that is back vouches for
   * nothing that was loaded before.
   */
  async #stampFor(
    plan: Plan,
    ttl: Time | undefined,
    { degradedMs }: Lifetimes,
    token: LoadToken | undefined,
  ): Promise<VersionStamp | 'dead' | null> {
    const { local, recentReads, runtime } = this.#core;
    const stamp = token === undefined ? recentReads.oldest(plan.key) : token.stamp;
    if (stamp === undefined) return this.#currentStamp(plan, ttl);
    if (stamp === 'forgotten') {
      this.#warn(plan, 'so many keys were read within 30 s that it is not known whether this one was');
      return null;
    }
    if (stamp === null || stamp === 'dead') return stamp;
    const known = token === undefined ? stamp : recentReads.ofToken(plan.key, stamp);
    if (known === 'dead') return known;
    const isSure = known !== undefined && (token !== undefined || local === null);
    if (isSure && stamp.epoch !== null) return known;
    const [state] = (await readStates(this.#core, [plan])) ?? [];
    if (state === undefined) return null;
    if (!sameTexts(state.fences, stamp.fences)) return 'dead';
    return isCurrent(stamp, state.epoch, degradedMs, runtime.now()) ? stamp : null;
  }

  async #currentStamp(plan: Plan, ttl: Time | undefined): Promise<VersionStamp | null> {
    const states = await readStates(this.#core, [plan]);
    return states === null ? null : ((await this.#stampsFor(states, ttl))[0] ?? null);
  }

  /** Version stamps for loads that begin after this resolves; null where a fence could not be confirmed. */
  async #stampsFor(states: readonly KeyState[], ttl: Time | undefined): Promise<(VersionStamp | null)[]> {
    const { runtime, settings } = this.#core;
    const prepared = await prepare(
      this.#core,
      states.map((state) => {
        return { state, longestMs: longestMs(lifetimesOf(state.plan, settings, ttl)), leaseMs: 0 };
      }),
    );
    return states.map((_, index) => {
      const stamp = prepared?.[index]?.stamp;
      return stamp ? { ...stamp, loadedAt: runtime.now() } : null;
    });
  }
}
