/** get, set and begin: reading without loading, and storing what was loaded elsewhere (rule 8, see recent-misses.ts). */

import type { VersionStamp } from '../protocol/entry.ts';
import { CacheError } from '../protocol/errors.ts';
import type { Plan } from '../protocol/fences.ts';
import { judge, type KeyState } from '../protocol/key-state.ts';
import { prepare, readStates } from './key-states.ts';
import type { Core } from './loader.ts';
import { lifetimesOf } from './options.ts';
import { RecentMisses } from './recent-misses.ts';
import { longestMs, store } from './store.ts';
import { unsupportedIn } from './values.ts';

/** What `begin` gives for `set`: the fences of one key as they stood before a load. Opaque. */
export interface LoadToken {
  readonly key: string;
  /** Null when Redis could not be asked; then the set is skipped. */
  readonly stamp: VersionStamp | null;
}

export class GetAndSet {
  readonly #core: Core;
  readonly #recentMisses: RecentMisses;

  constructor(core: Core) {
    this.#core = core;
    this.#recentMisses = new RecentMisses(core.runtime);
  }

  /** The cached values of those keys that hit. Misses are remembered for `set`, with fences that stand from then on. */
  async read(plans: readonly Plan[]): Promise<Map<string, unknown>> {
    const { access, runtime, settings } = this.#core;
    const startedAt = runtime.now();
    const states = await readStates(this.#core, plans);
    const found = new Map<string, unknown>();
    if (states === null) {
      // The load that follows has no fences, so a set that follows it must not find any.
      if (access.enabled) for (const { key } of plans) this.#recentMisses.remember(key, null);
      return found;
    }
    const now = runtime.now();
    const missing = states.filter((state) => {
      const judged = judge(state, lifetimesOf(state.plan, settings, undefined).degradedMs, now);
      const fresh = judged.hit && judged.staleFor === null;
      if (fresh) found.set(state.plan.key, judged.envelope.value);
      this.#core.observe(state.plan, fresh ? 'hit' : 'miss', now - startedAt);
      return !fresh;
    });
    const stamps = await this.#stampsFor(missing, undefined);
    missing.forEach(({ plan }, index) => {
      this.#recentMisses.remember(plan.key, stamps[index] ?? null);
    });
    return found;
  }

  /** The fences of a key as they stand now, for a load that begins after this. */
  async begin(plan: Plan): Promise<LoadToken> {
    return { key: plan.key, stamp: await this.#currentStamp(plan, undefined) };
  }

  /** Stores a value under the token's fences, else under remembered ones, else under the current ones. */
  async set(
    plan: Plan,
    value: unknown,
    ttl: number | undefined,
    token: LoadToken | undefined,
  ): Promise<boolean> {
    const { key } = plan;
    if (token !== undefined && token.key !== key) {
      throw new CacheError('TOKEN_MISMATCH', 'The token was given out by begin() for another key.');
    }
    const unsupported = unsupportedIn(value);
    if (unsupported !== null) throw unsupported;
    const remembered = token === undefined ? this.#recentMisses.oldest(key) : token.stamp;
    const lifetimes = lifetimesOf(plan, this.#core.settings, ttl);
    const stamp = remembered === undefined ? await this.#currentStamp(plan, ttl) : remembered;
    const { stored } = await store(this.#core, [{ plan, stamp, value, lifetimes, lease: null }]);
    return stored.has(key);
  }

  async #currentStamp(plan: Plan, ttl: number | undefined): Promise<VersionStamp | null> {
    const states = await readStates(this.#core, [plan]);
    return states === null ? null : ((await this.#stampsFor(states, ttl))[0] ?? null);
  }

  /** Version stamps for loads that begin after this resolves; null where a fence could not be confirmed. */
  async #stampsFor(states: readonly KeyState[], ttl: number | undefined): Promise<(VersionStamp | null)[]> {
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
