/**
 * Options of the cache and of single calls: what each takes, in which unit, and its default.
 */

import { DEGRADED_MAX_AGE_SECONDS } from '../protocol/epoch.ts';
import type { CacheError } from '../protocol/errors.ts';
import type { Plan } from '../protocol/fences.ts';
import type { KeyTypes } from '../protocol/key-types.ts';
import { OTHER_TYPE } from '../protocol/statistics.ts';
import { secondsAsMs, type Time } from '../protocol/times.ts';
import type { Runtime } from '../redis/runtime.ts';
import type { Connection } from '../redis/upstash.ts';
import type { LocalSettings } from './local-level.ts';
import {
  BOOLEAN,
  checkOption,
  checkOptions,
  FUNCTION,
  numberOf,
  objectOf,
  orNull,
  type Rule,
  type Rules,
  refuseOptions,
  STRING,
  TIME,
  withMethods,
  wrongOption,
} from './option-rules.ts';
import type { Serializer } from './serializer.ts';

/** How a read was answered. `disabled`: without asking Redis, because it is away or not configured. */
export type Outcome = 'hit' | 'stale' | 'miss' | 'bypass' | 'disabled';

/** What hooks learn about a read; `type` is the name of a declared type or `other`. */
export interface ReadEvent {
  readonly type: string;
  readonly key: string;
}

/** How long an entry lives whose type names no time, and whose call names none. */
const DEFAULT_TTL_SECONDS = 300;

/** A longer lease would only make readers wait for a leader that died. */
const LONGEST_LEASE_MS = 60_000;

/** What is answered in process for longer is better read through Redis. */
const LONGEST_LOCAL_MS = 60_000;

/** The longest time that setTimeout takes; a longer one fires at once. */
const LONGEST_TIMER_MS = 2_147_483_647;

export interface CacheOptions {
  /** The application's key types, by name; none by default. */
  readonly types?: KeyTypes | undefined;
  /** UPSTASH_REDIS_REST_URL and _TOKEN by default. Without them the cache is disabled and every read is loaded. */
  readonly url?: string | undefined;
  readonly token?: string | undefined;
  /** In front of every key, for databases shared with other applications; CACHE_PREFIX by default, else empty. */
  readonly prefix?: string | undefined;
  /** Milliseconds that one call to Redis may take; default 250. */
  readonly timeout?: number | undefined;
  /** Milliseconds for which one isolate's load keeps others from loading the same; default 1000, 0 for no leases. */
  readonly lease?: number | undefined;
  /** Seconds; how old an answer may be while no worker is alive; default 30. */
  readonly degradedMaxAge?: Time | undefined;
  /** Bytes of a stored entry; larger values are not cached; default 1 MiB. */
  readonly maxValueBytes?: number | undefined;
  /**
   * A first level in the process, for keys that are read hundreds of times a second; off by default. An answer may then be older than an
   * acknowledged invalidation by `ttl` milliseconds (1 to 60 000), except this cache's own `del`. `max`: keys.
   */
  readonly local?: { readonly ttl: number; readonly max: number } | undefined;
  /** For values that JSON would change: `superjson`, or any `{ parse, stringify }`. Isolates with another, or without, load such keys anew. */
  readonly serializer?: Serializer | undefined;
  readonly onHit?: ((event: ReadEvent & { readonly stale: boolean }) => void) | undefined;
  readonly onMiss?: ((event: ReadEvent) => void) | undefined;
  /** Failures of Redis and values that cannot be cached, never a loader's error. `error.cause` may hold a whole command: do not print it. */
  readonly onError?: ((error: CacheError) => void) | undefined;
  /** Takes the module's warnings; default console.warn. No line holds a key, a value, a token or a URL. */
  readonly log?: ((message: string) => void) | undefined;
  /** For tests: another way to Redis, or null for none; and another clock. */
  readonly connection?: Connection | null | undefined;
  readonly runtime?: Runtime | undefined;
}

export interface GetOrSetOptions {
  /** Seconds, or a text such as '5m'; for options that stand in the place of the ttl. */
  readonly ttl?: Time | undefined;
  /** Seconds to keep null or absence; default: as long as any value. 0: not at all. */
  readonly negativeTtl?: Time | undefined;
  /** Seconds; how old an answer may be while no worker is alive. 0: none. Types with `degraded: false` stay at 0. */
  readonly degradedMaxAge?: Time | undefined;
  /** Seconds past the TTL during which the old answer is given at once while a new one is loaded behind it. */
  readonly staleWhileRevalidate?: Time | undefined;
  /** Seconds past the TTL during which the old answer is given when the loader fails. */
  readonly staleIfError?: Time | undefined;
  /** Milliseconds to wait for the loader; then LOAD_TIMEOUT (or the old answer, with staleIfError). Default: no limit. */
  readonly timeout?: number | undefined;
  /** As the cache's `lease`, for this call: a little more than its loader takes. */
  readonly lease?: number | undefined;
  /** Ends this caller's wait with the signal's reason; the load itself ends when nobody waits for it any more. */
  readonly signal?: AbortSignal | undefined;
  /** True: neither read nor stored, just loaded. */
  readonly bypass?: boolean | undefined;
  /** True: loaded and stored, whatever is cached. */
  readonly fresh?: boolean | undefined;
  /**
   * What else the answer is made of: keys, and groups of two or more segments such as `user:7:*`. An invalidation of any of them
   * makes it unreadable too. In getOrSetMany also a function that gives the list of each key.
   * Every call of a key has to name the same: an answer that was stored with others is a miss.
   */
  readonly dependsOn?: readonly string[] | ((key: string) => readonly string[]) | undefined;
  /** Whose rights the loader uses. Only calls of one identity share a load in progress. All identities share what is stored. */
  readonly identity?: string | undefined;
  /** Called for each key with how it was answered. */
  readonly onOutcome?: ((key: string, outcome: Outcome) => void) | undefined;
}

export interface Settings {
  readonly timeoutMs: number;
  readonly leaseMs: number;
  readonly degradedMs: number;
  readonly maxValueBytes: number;
  /** Null: there is no first level in process. */
  readonly local: LocalSettings | null;
}

const CACHE_RULES: Rules<CacheOptions> = {
  // Where they are compiled, each is checked.
  types: { expected: 'key types', accepts: () => true },
  url: STRING,
  token: STRING,
  prefix: STRING,
  timeout: numberOf('milliseconds', 1, LONGEST_TIMER_MS),
  lease: numberOf('milliseconds', 0, LONGEST_LEASE_MS),
  degradedMaxAge: TIME,
  maxValueBytes: numberOf('bytes', 0, Number.MAX_SAFE_INTEGER),
  local: objectOf({
    ttl: numberOf('milliseconds', 1, LONGEST_LOCAL_MS),
    max: numberOf('keys', 1, 1_000_000),
  }),
  serializer: withMethods<Serializer>('parse', 'stringify'),
  onHit: FUNCTION,
  onMiss: FUNCTION,
  onError: FUNCTION,
  log: FUNCTION,
  connection: orNull(withMethods<Connection>('getMany', 'write', 'writeThenRead', 'scan', 'health')),
  runtime: withMethods<Runtime>('now', 'monotonic', 'randomToken', 'random', 'sleep', 'background'),
};

/** What the cache uses of a signal; not its class, of which a test runner's page has another. */
const SIGNAL_METHODS = withMethods<AbortSignal>('addEventListener', 'throwIfAborted');
const SIGNAL: Rule = {
  expected: 'an AbortSignal',
  accepts: (value) =>
    SIGNAL_METHODS.accepts(value) && typeof (value as { aborted?: unknown }).aborted === 'boolean',
};

export const CALL_RULES: Rules<GetOrSetOptions> = {
  ttl: TIME,
  negativeTtl: TIME,
  degradedMaxAge: TIME,
  staleWhileRevalidate: TIME,
  staleIfError: TIME,
  timeout: numberOf('milliseconds', 0, LONGEST_TIMER_MS),
  lease: numberOf('milliseconds', 0, LONGEST_LEASE_MS),
  signal: SIGNAL,
  bypass: BOOLEAN,
  fresh: BOOLEAN,
  dependsOn: {
    expected: 'a list of keys and groups, or a function that gives one',
    accepts: (value) => Array.isArray(value) || typeof value === 'function',
  },
  identity: STRING,
  onOutcome: FUNCTION,
};

/** @throws CacheError INVALID_CONFIGURATION for options that cannot work */
export function checkCacheOptions(options: CacheOptions): CacheOptions {
  return checkOptions('createCache', options, CACHE_RULES);
}

/** @param options checked ones */
export function settingsOf(options: CacheOptions): Settings {
  const { timeout = 250, lease = 1_000, degradedMaxAge = DEGRADED_MAX_AGE_SECONDS, local } = options;
  return {
    timeoutMs: Math.ceil(timeout),
    leaseMs: Math.ceil(lease),
    degradedMs: secondsAsMs(degradedMaxAge),
    maxValueBytes: options.maxValueBytes ?? 1_048_576,
    local: local === undefined ? null : { ttlMs: Math.ceil(local.ttl), max: Math.ceil(local.max) },
  };
}

/** Types that grant access are never served stale, nor without a living worker, nor from the process itself. */
export function grantsAccess(plan: Plan): boolean {
  return plan.type?.degraded === false || plan.dependencyTypes.some((type) => type.degraded === false);
}

/** The name under which a plan's reads are counted. */
export function typeName(plan: Plan): string {
  return plan.type?.name ?? OTHER_TYPE;
}

/** Everything that decides how long one key's answer may be used; milliseconds. */
export interface Lifetimes {
  readonly ttlMs: number;
  readonly negativeTtlMs: number;
  readonly degradedMs: number;
  readonly revalidateMs: number;
  readonly errorMs: number;
  /** For how long other isolates leave the load to the one that holds the lease. */
  readonly leaseMs: number;
  /** For how long this call waits for another isolate's load; then there is still time for one of its own. */
  readonly waitMs: number;
  /** The same for all loads that it waits for: where the first was invalidated, there is time for the one after it. */
  readonly mostWaitMs: number;
}

/**
 * @param ttl default: the type's, else 300 seconds. 0: answers are not stored.
 * @param options checked ones
 */
export function lifetimesOf(
  plan: Plan,
  settings: Settings,
  ttl: Time | undefined,
  options: GetOrSetOptions = NO_OPTIONS,
): Lifetimes {
  const { negativeTtl, degradedMaxAge, staleWhileRevalidate = 0, staleIfError = 0, lease, timeout } = options;
  // The strictest of the key and all that it depends on.
  const others = plan.dependencyTypes.map((type) => secondsAsMs(type.ttl));
  const ttlMs = Math.min(secondsAsMs(ttl ?? plan.type?.ttl ?? DEFAULT_TTL_SECONDS), ...others);
  const degradedMs = degradedMaxAge === undefined ? settings.degradedMs : secondsAsMs(degradedMaxAge);
  const negativeTtlMs = negativeTtl === undefined ? ttlMs : Math.min(secondsAsMs(negativeTtl), ...others);
  // When nothing is stored, waiting for another isolate's load would find nothing.
  const asked = lease === undefined ? settings.leaseMs : Math.ceil(lease);
  const leaseMs = Math.max(ttlMs, negativeTtlMs) === 0 ? 0 : asked;
  const neverLate = grantsAccess(plan);
  return {
    ttlMs,
    negativeTtlMs,
    degradedMs: neverLate ? 0 : degradedMs,
    revalidateMs: neverLate ? 0 : secondsAsMs(staleWhileRevalidate),
    errorMs: neverLate ? 0 : secondsAsMs(staleIfError),
    leaseMs,
    waitMs: timeout === undefined ? leaseMs : Math.min(leaseMs, timeout / 2),
    mostWaitMs: timeout === undefined ? leaseMs * 2 : Math.min(leaseMs * 2, timeout / 2),
  };
}

const NO_OPTIONS: GetOrSetOptions = {};

/** What follows the loader: a ttl, options beside it, or options in its place. */
export type CallArguments =
  | [options?: GetOrSetOptions]
  | [ttl: Time | undefined, options?: Omit<GetOrSetOptions, 'ttl'> & { readonly ttl?: undefined }];

/** A call's options, wherever they stand. @throws CacheError INVALID_CONFIGURATION for what cannot work, and for what is said twice */
export function optionsOf([first, second, ...more]: CallArguments): GetOrSetOptions {
  refuseOptions('a call', more);
  const call =
    second === undefined ? NO_OPTIONS : checkOptions<GetOrSetOptions>('a call', second, CALL_RULES);
  if (first === undefined) return coherent(call);
  if (typeof first === 'object' && first !== null) {
    if (second !== undefined)
      throw wrongOption('Options stand in the third place or in the fourth, not in both');
    return coherent(checkOptions('a call', first, CALL_RULES));
  }
  if (call.ttl !== undefined)
    throw wrongOption('The ttl stands in the third place or in the options, not in both');
  checkOption('ttl', first, TIME);
  return coherent({ ...call, ttl: first });
}

function coherent(options: GetOrSetOptions): GetOrSetOptions {
  if (options.fresh === true && options.bypass === true)
    throw wrongOption('fresh stores and bypass does not: give one of them');
  return options;
}

/**
 * Calls one of the application's hooks, if there is one. It may be asynchronous; nobody waits for it. Never throws: a failing hook
 * neither reaches a caller nor ends a Node process by an unhandled rejection.
 */
export function callHook<Arguments extends readonly unknown[]>(
  hook: ((...told: Arguments) => unknown) | undefined,
  ...told: Arguments
): void {
  try {
    const result = hook?.(...told);
    if (typeof result === 'object' && result !== null && 'then' in result) {
      Promise.resolve(result).catch(() => {});
    }
  } catch {
    // The application's own failure.
  }
}
