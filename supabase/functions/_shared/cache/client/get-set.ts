/** get, set and begin: reading without loading, and storing what was loaded elsewhere (rule 8, see recent-reads.ts). */

import { isStampOrNull, type VersionStamp } from '../protocol/entry.ts';
import { CacheError } from '../protocol/errors.ts';
import type { Plan } from '../protocol/fences.ts';
import { allExist, type KeyState } from '../protocol/key-state.ts';
import { prepare, readStates } from './key-states.ts';
import type { Core } from './loader.ts';
import { lifetimesOf, typeName } from './options.ts';
import { longestMs, store } from './store.ts';
import type { Time } from './times.ts';
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
    if (local?.loading !== undefined) await local.loading;
    const reading = recentReads.begin();
    try {
      const startedAt = runtime.now();
      const found = new Map<string, unknown>();
      const answers = (state: KeyState): boolean => {
        const { plan, fences, epoch } = state;
        const now = runtime.now();
        const judged = this.#core.judge(state, lifetimesOf(plan, settings, undefined).degradedMs, now);
        if (!judged.hit || judged.staleFor !== null) return false;
        found.set(plan.key, judged.envelope.value);
        this.#core.observe(plan, 'hit', now - startedAt);
        if (allExist(fences)) recentReads.remember(plan, { fences, epoch, loadedAt: now }, reading);
        return true;
      };
      const asked = plans.filter((plan) => {
        const state = local?.find(plan) ?? null;
        return state === null || !answers(state);
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
        const isHit = answers(state);
        if (!isHit) this.#core.observe(state.plan, 'miss', 0);
        else if (localReading !== undefined) local?.fill(localReading, state);
        return !isHit;
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
    return { key: plan.key, stamp: await this.#currentStamp(plan, undefined) };
  }

  /** Stores a value under the token's fences, else under remembered ones, else under the current ones. */
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
    const { access, recentReads, settings, values } = this.#core;
    const encoded = values.encode(value);
    if (encoded instanceof UnsupportedValue) throw encoded;
    const lifetimes = lifetimesOf(plan, settings, ttl);
    const remembered = token === undefined ? recentReads.oldest(key) : token.stamp;
    if (remembered === 'dead') {
      access.warn(
        `set of ${typeName(plan)}`,
        `a set of type ${typeName(plan)} stored nothing: the key was invalidated since the get before it, and the value may have been ` +
          'loaded before that. Take a token with begin(key) before the load, and give it to set.',
      );
      return false;
    }
    const stamp = remembered === undefined ? await this.#currentStamp(plan, ttl) : remembered;
    if (stamp === null) return false;
    const { stored } = await store(this.#core, [
      { plan, stamp, ...encoded, lifetimes, lease: null, replaces: true },
    ]);
    return stored.has(key);
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
