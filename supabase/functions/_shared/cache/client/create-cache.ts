/** Puts one cache together: connection, key types, statistics, log. No other module does. */
import { checkDependencies } from '../protocol/dependencies.ts';
import { httpAddress, prefixProblem, tokenProblem, trimmed } from '../protocol/environment.ts';
import { CacheError } from '../protocol/errors.ts';
import { checkPattern, type Plan } from '../protocol/fences.ts';
import { judge } from '../protocol/key-state.ts';
import { KeyCatalogue, type KeyTypes } from '../protocol/key-types.ts';
import { RedisAccess } from '../redis/redis-access.ts';
import { environmentVariable, systemRuntime } from '../redis/runtime.ts';
import { type Connection, Upstash } from '../redis/upstash.ts';
import type { Cache, Loaded } from './cache.ts';
import { deleteKeys, deletePattern } from './delete.ts';
import { FenceRenewals } from './fence-renewals.ts';
import { resolve } from './get-or-set.ts';
import { GetAndSet } from './get-set.ts';
import type { Core, LoadContext, LoadMany } from './loader.ts';
import { LocalLevel } from './local-level.ts';
import { checkOption, refuseOptions, TIME } from './option-rules.ts';
import {
  type CacheOptions,
  type CallArguments,
  callHook,
  checkCacheOptions,
  type GetOrSetOptions,
  optionsOf,
  type Settings,
  settingsOf,
  typeName,
} from './options.ts';
import { RecentReads } from './recent-reads.ts';
import { Values } from './serializer.ts';
import { HUNG_AFTER_MS, SingleFlight } from './single-flight.ts';
import { Statistics } from './statistics.ts';
import { wrapWith } from './wrap.ts';

/**
 * @param types the application's, unless the options name others
 * @throws CacheError INVALID_CONFIGURATION for options that cannot work; never for a missing or malformed URL, which disables the cache
 */
export function createCache(options: CacheOptions = {}, types: KeyTypes = {}): Cache {
  const core = createCore(options, types);
  const planFor = (key: string): Plan => core.catalogue.planFor(key);
  const { access, statistics } = core;
  const getAndSet = new GetAndSet(core);
  const readThrough = (plans: readonly Plan[], load: LoadMany, options: GetOrSetOptions) =>
    resolve(core, plans, { load, ttl: options.ttl, options });
  const planOfCall = (key: string, dependsOn: GetOrSetOptions['dependsOn']): Plan => {
    if (dependsOn === undefined) return planFor(key);
    return core.catalogue.planFor(
      key,
      checkDependencies(typeof dependsOn === 'function' ? dependsOn(key) : dependsOn),
    );
  };

  const emptied = <T>(deletion: () => Promise<T>): Promise<T> =>
    core.local === null ? deletion() : core.local.emptyAround(deletion);

  const cache: Cache = {
    async get<T>(key: string, ...more: unknown[]) {
      refuseOptions('get', more);
      return ((await getAndSet.read([planFor(key)])).get(key) ?? null) as T | null;
    },
    async lookup<T>(key: string, ...more: unknown[]) {
      refuseOptions('lookup', more);
      const found = await getAndSet.read([planFor(key)]);
      return found.has(key) ? { hit: true, value: found.get(key) as T | null | undefined } : { hit: false };
    },
    async getMany<T>(wanted: readonly string[], ...more: unknown[]) {
      refuseOptions('getMany', more);
      const found = await getAndSet.read(distinct(wanted).map(planFor));
      return new Map([...found].map(([key, value]) => [key, (value ?? null) as T | null]));
    },
    begin: async (key: string, ...more: unknown[]) => {
      refuseOptions('begin', more);
      return getAndSet.begin(planFor(key));
    },
    set: async (key, value, ttl, token, ...more: unknown[]) => {
      refuseOptions('set', more);
      checkOption('ttl', ttl, TIME);
      return getAndSet.set(planFor(key), value, ttl, token);
    },
    async getOrSet<T>(
      key: string,
      load: (context: LoadContext) => T | PromiseLike<T>,
      ...given: CallArguments
    ) {
      checkLoader(load);
      const options = optionsOf(given);
      const loadOne: LoadMany = async (_, context) => new Map([[key, await load(context)]]);
      return (await readThrough([planOfCall(key, options.dependsOn)], loadOne, options)).get(key) as T;
    },
    async getOrSetMany<T>(
      wanted: readonly string[],
      loadMany: (missing: readonly string[], context: LoadContext) => Loaded<T> | PromiseLike<Loaded<T>>,
      ...given: CallArguments
    ) {
      checkLoader(loadMany);
      const options = optionsOf(given);
      const plans = distinct(wanted).map((key) => planOfCall(key, options.dependsOn));
      const answers = await readThrough(plans, async (...args) => loadMany(...args), options);
      return new Map(plans.map(({ key }) => [key, answers.get(key) as T | undefined]));
    },
    wrap: (...given) => wrapWith(cache.getOrSet, ...given),
    del: async (...wanted) => emptied(() => deleteKeys(core, wanted)),
    delPattern: async (glob: string, ...more: unknown[]) => {
      refuseOptions('delPattern', more);
      checkPattern(glob);
      return emptied(() => deletePattern(core, glob));
    },
    stats: () => statistics.snapshot(access.commands),
    ping: () => access.ping(),
  };
  return cache;
}

function checkLoader(load: unknown): void {
  if (typeof load === 'function') return;
  throw new CacheError(
    'INVALID_LOAD',
    `The loader is ${load === null ? 'null' : typeof load}; give a function.`,
  );
}

/** What is no list would be read letter by letter, or give nothing. */
function distinct(wanted: readonly string[]): string[] {
  if (Array.isArray(wanted)) return [...new Set(wanted)];
  throw new CacheError('INVALID_KEY', 'Several keys are given as a list.');
}

/** What all calls of one cache share; exported for tests/cache/leaks.test.ts. */
export function createCore(given: CacheOptions, ownTypes: KeyTypes = {}): Core {
  const options = checkCacheOptions(given);
  const settings = settingsOf(options);
  const { types = ownTypes } = options;
  const catalogue = new KeyCatalogue(types);
  const runtime = options.runtime ?? systemRuntime;
  const statistics = new Statistics(runtime, catalogue.types);
  const write = options.log ?? ((message: string) => console.warn(message));
  const log = (message: string): void => callHook(write, message);
  const failed = (error: CacheError): void => {
    statistics.redisFailed();
    callHook(options.onError, error);
  };
  const values = new Values(options.serializer);
  const access = new RedisAccess(connectionFor(options, settings, log), runtime, { log, failed });
  return {
    catalogue,
    access,
    runtime,
    settings,
    statistics,
    renewals: new FenceRenewals(runtime),
    recentReads: new RecentReads(runtime),
    singleFlight: new SingleFlight(runtime),
    values,
    local: settings.local === null ? null : new LocalLevel(settings.local, runtime),
    judge: (state, degradedMs, now) => {
      const judged = judge(state, degradedMs, now);
      if (!judged.hit || judged.envelope.serializer === null) return judged;
      const decoded = values.decode(judged.envelope);
      if (decoded === undefined) return { hit: false, reason: 'unreadable', fence: null, envelope: null };
      return { ...judged, envelope: { ...judged.envelope, value: decoded.value } };
    },
    refreshing: new Set(),
    reportHung: (plans) => {
      const types = namesOf(plans);
      const said = `a load of type ${types} has taken longer than ${HUNG_AFTER_MS / 1_000} s`;
      access.warn(
        'hung',
        `${said}; callers that waited for it load anew. Does it hang, or wait for its own key?`,
      );
      return new CacheError('LOAD_TIMEOUT', `The loader took longer than ${HUNG_AFTER_MS} ms.`);
    },
    reportUnsupported: (plan, error) => {
      const type = typeName(plan);
      callHook(options.onError, error);
      access.warn(`value of ${type}`, `a value of type ${type} is not cached: ${error.inWords}`);
    },
    observe: (plan, outcome, milliseconds) => {
      if (outcome === 'bypass' || outcome === 'disabled') return;
      const type = typeName(plan);
      statistics.read(type, outcome, milliseconds);
      if (outcome === 'miss') callHook(options.onMiss, { type, key: plan.key });
      else callHook(options.onHit, { type, key: plan.key, stale: outcome === 'stale' });
      statistics.flushWhenDue(access);
    },
  };
}

function connectionFor(
  options: CacheOptions,
  { timeoutMs }: Settings,
  log: (message: string) => void,
): Connection | null {
  if (options.connection !== undefined) return options.connection;
  // A missing variable often arrives as an empty option.
  const text = trimmed(options.url) ?? environmentVariable('UPSTASH_REDIS_REST_URL');
  const token = trimmed(options.token) ?? environmentVariable('UPSTASH_REDIS_REST_TOKEN');
  const disabled = (reason: string): null => {
    log(`cache: disabled; ${reason} Reads go to their loaders.`);
    return null;
  };
  if (text === undefined || token === undefined)
    return disabled('set UPSTASH_REDIS_REST_URL and UPSTASH_REDIS_REST_TOKEN to enable it.');
  const prefix = options.prefix?.trim() ?? environmentVariable('CACHE_PREFIX') ?? '';
  const address = httpAddress(text, 'https://<name>.upstash.io');
  if (address.problem !== null) return disabled(`UPSTASH_REDIS_REST_URL ${address.problem}.`);
  const wrongToken = tokenProblem(token);
  if (wrongToken !== null) return disabled(`UPSTASH_REDIS_REST_TOKEN ${wrongToken}.`);
  // With another prefix than the worker's, nothing would ever be invalidated.
  const wrongPrefix = prefixProblem(prefix);
  if (wrongPrefix !== null) return disabled(`CACHE_PREFIX ${wrongPrefix}.`);
  try {
    return new Upstash({ url: address.url, token, prefix, timeout: timeoutMs });
  } catch (error) {
    // Thrown by Upstash's constructor alone, whose messages are safe to show.
    return disabled(error instanceof CacheError ? error.message : 'it could not be set up.');
  }
}

function namesOf(plans: readonly Plan[]): string {
  return [...new Set(plans.map(typeName))].join(', ');
}
