/** `wrap`: a function whose answers are cached under keys that its arguments make. */
import { CacheError } from '../protocol/errors.ts';
import type { Cache } from './cache.ts';
import { checkOptions, type Rule, type Rules, refuseOptions, wrongOption } from './option-rules.ts';
import { CALL_RULES, type GetOrSetOptions } from './options.ts';

export interface WrapOptions<Arguments extends readonly unknown[]>
  extends Omit<GetOrSetOptions, 'dependsOn'> {
  /** Makes the key of the answer to these arguments; a string for a function without any. Every argument that the answer depends on has to be part of it. */
  readonly key: string | ((...given: Arguments) => string);
  /** What else the answer to these arguments is made of, as in getOrSet. */
  readonly dependsOn?: ((...given: Arguments) => readonly string[]) | readonly string[] | undefined;
}

const KEY: Rule = {
  expected: 'a function of the same arguments, or a string',
  accepts: (value) => typeof value === 'function' || typeof value === 'string',
};
const WRAP_RULES: Rules<WrapOptions<readonly unknown[]>> = { ...CALL_RULES, key: KEY };

/**
 * @throws CacheError INVALID_LOAD for what is no function; INVALID_CONFIGURATION for options that cannot work
 */
export function wrapWith<Arguments extends readonly unknown[], T>(
  getOrSet: Cache['getOrSet'],
  load: (...given: Arguments) => T | PromiseLike<T>,
  options: WrapOptions<Arguments>,
  ...more: readonly unknown[]
): (...given: Arguments) => Promise<T> {
  refuseOptions('wrap', more);
  if (typeof load !== 'function') {
    throw new CacheError('INVALID_LOAD', 'wrap takes a function and its options.');
  }
  const { key, dependsOn, ...rest } = checkOptions<WrapOptions<Arguments>>('wrap', options, WRAP_RULES);
  if (key === undefined) throw wrongOption(`wrap needs key, ${KEY.expected}`);
  return async function (this: unknown, ...given) {
    // All arguments would share one answer.
    if (typeof key === 'string' && given.length > 0) {
      throw wrongOption('With arguments the key of wrap must be a function of them');
    }
    return getOrSet(typeof key === 'string' ? key : key(...given), () => Reflect.apply(load, this, given), {
      ...rest,
      dependsOn: typeof dependsOn === 'function' ? () => dependsOn(...given) : dependsOn,
    });
  };
}
