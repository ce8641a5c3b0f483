/**
 * What an option takes, as data, and the one check of options objects: by createCache, wrap and every call. It knows each option's name,
 * shape and unit, because JavaScript callers have no types. A schema library would put a second package into the import map of every
 * function that adopts the cache, for what is one loop here.
 */
import { CacheError } from '../protocol/errors.ts';
import { isRecord } from '../protocol/plain-objects.ts';
import { isTime, TIME_IN_WORDS } from '../protocol/times.ts';

export interface Rule {
  /** Ends the sentence "timeout must be …". */
  readonly expected: string;
  readonly accepts: (value: unknown) => boolean;
}

/** A rule for each option: TypeScript holds that none is missing. */
export type Rules<Options> = { readonly [Name in keyof Options]-?: Rule };

export const STRING: Rule = { expected: 'a string', accepts: (value) => typeof value === 'string' };
export const BOOLEAN: Rule = { expected: 'a boolean', accepts: (value) => typeof value === 'boolean' };
export const FUNCTION: Rule = { expected: 'a function', accepts: (value) => typeof value === 'function' };
export const TIME: Rule = { expected: TIME_IN_WORDS, accepts: isTime };

export function numberOf(unit: string, least: number, most: number): Rule {
  return {
    expected: `a number of ${unit} from ${least} to ${most}`,
    accepts: (value) => typeof value === 'number' && value >= least && value <= most,
  };
}

/** Anything with these methods: an instance of a class, a class, a stand-in of a test. */
export function withMethods<T>(...names: readonly (keyof T & string)[]): Rule {
  return {
    expected: `an object with the functions ${names.join(', ')}`,
    accepts: (value) => {
      if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return false;
      return names.every((name) => typeof (value as Partial<Record<string, unknown>>)[name] === 'function');
    },
  };
}

/** An object of all of these properties. */
export function objectOf(rules: Readonly<Record<string, Rule>>): Rule {
  const all = Object.entries(rules);
  return {
    expected: `an object of ${all.map(([name, { expected }]) => `${name}, ${expected}`).join(', and ')}`,
    accepts: (value) =>
      isRecord(value) &&
      all.every(([name, { accepts }]) => accepts(value[name])) &&
      Object.keys(value).length === all.length,
  };
}

export function orNull(rule: Rule): Rule {
  return { expected: `${rule.expected}, or null`, accepts: (value) => value === null || rule.accepts(value) };
}

/** @throws CacheError INVALID_CONFIGURATION for a value that the rule does not take; undefined is each option's default */
export function checkOption(name: string, value: unknown, { accepts, expected }: Rule): void {
  if (value !== undefined && !accepts(value))
    throw wrongOption(`${name} must be ${expected}; leave it out for the default`);
}

/**
 * @param of ends the sentence "The options of …"
 * @returns a copy, so that what was checked is what is used
 * @throws CacheError INVALID_CONFIGURATION for what is no plain object, a name without a rule, and a value that its rule does not take
 */
export function checkOptions<Options extends object>(
  of: string,
  options: Options,
  rules: Rules<Options>,
): Options {
  if (!isRecord(options))
    throw wrongOption(`The options of ${of} must be a plain object such as { ttl: 300 }`);
  const copy = { ...options };
  for (const name of Object.keys(copy) as (keyof Options & string)[]) {
    if (!Object.hasOwn(rules, name)) throw unknownOption(of, name, rules);
    checkOption(name, copy[name], rules[name]);
  }
  return copy;
}

/**
 * @param more what was given after all that the function takes. A number or a list there is what `map` adds, as in `keys.map(cache.get)`
 * @throws CacheError INVALID_CONFIGURATION for an object, which would be ignored
 */
export function refuseOptions(name: string, [first]: readonly unknown[]): void {
  if (typeof first === 'object' && first !== null && !Array.isArray(first))
    throw wrongOption(`${name} takes no options in this place`);
}

export function wrongOption(problem: string): CacheError {
  return new CacheError('INVALID_CONFIGURATION', `${problem}.`);
}

/** The name is repeated only if it is a word: in the wrong place it may be a key, which no message holds. */
function unknownOption(of: string, name: string, rules: object): CacheError {
  const shown = /^[a-z]{1,40}$/i.test(name)
    ? `There is no option ${name}`
    : 'There is an option of no known name';
  return wrongOption(`${shown} of ${of}; there are ${Object.keys(rules).join(', ')}`);
}
