/** get, set and begin: reading without loading, and storing what was loaded elsewhere (rule 8, see recent-reads.ts). */

import type { VersionStamp } from '../protocol/entry.ts';
import { CacheError } from '../protocol/errors.ts';
import type { Plan } from '../protocol/fences.ts';
import { allExist, judge, type KeyState } from '../protocol/key-state.ts';
import { prepare, readStates } from './key-states.ts';
import type { Core } from './loader.ts';
import { lifetimesOf, typeName } from './options.ts';
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

  constructor(core: Core) {
    this.#core = core;
  }

  /** The cached values of those keys that hit. All are remembered for `set`; what misses gets fences that stand from then on. */
  async read(plans: readonly Plan[]): Promise<Map<string, unknown>> {
    const { access, recentReads, runtime, settings } = this.#core;
    const reading = recentReads.begin();
    try {
      const startedAt = runtime.now();
      const states = await readStates(this.#core, plans);
      const found = new Map<string, unknown>();
      if (states === null) {
        // The load that follows has no fences, so a set that follows it must not find any.
        if (access.enabled) for (const plan of plans) recentReads.remember(plan, null, reading);
        return found;
      }
      const now = runtime.now();
      const missing = states.filter((state) => {
        const judged = judge(state, lifetimesOf(state.plan, settings, undefined).degradedMs, now);
        const fresh = judged.hit && judged.staleFor === null;
        if (fresh) found.set(state.plan.key, judged.envelope.value);
        this.#core.observe(state.plan, fresh ? 'hit' : 'miss', now - startedAt);
        const { plan, fences, epoch } = state;
        if (fresh && allExist(fences)) recentReads.remember(plan, { fences, epoch, loadedAt: now }, reading);
        return !fresh;
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
    ttl: number | undefined,
    token: LoadToken | undefined,
  ): Promise<boolean> {
    const { key } = plan;
    if (token !== undefined && token.key !== key) {
      throw new CacheError('TOKEN_MISMATCH', 'The token was given out by begin() for another key.');
    }
    const { access, recentReads, settings } = this.#core;
    const unsupported = unsupportedIn(value);
    if (unsupported !== null) throw unsupported;
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
    const { stored } = await store(this.#core, [{ plan, stamp, value, lifetimes, lease: null }]);
    // The program has a newer value, so the one before must not answer any more.
    if (!stored.has(key)) await access.write([{ op: 'delete', keys: [key] }]);
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
