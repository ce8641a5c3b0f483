/** A call of getOrSet or getOrSetMany, and its keys. */
import type { Plan } from '../protocol/fences.ts';
import type { KeyState } from '../protocol/key-state.ts';
import type { Time } from '../protocol/times.ts';
import type { LoadMany } from './loader.ts';
import type { GetOrSetOptions, Lifetimes } from './options.ts';

/** What a call of getOrSet asks for. */
export interface Call {
  readonly load: LoadMany;
  /** Undefined: each key's own. */
  readonly ttl: Time | undefined;
  readonly options: GetOrSetOptions;
  /** Stale entries of a first attempt, in case the loader fails. */
  readonly fallbacks?: ReadonlyMap<string, ReadKey>;
}

/** A key and how long its answers may be used. */
export interface WantedKey {
  readonly plan: Plan;
  readonly lifetimes: Lifetimes;
}

/** A key that was read. */
export interface ReadKey extends WantedKey {
  readonly state: KeyState;
}
