/** `wrap`: a function whose answers are cached under keys that its arguments make. */
import { CacheError } from '../protocol/errors.ts';
import type { Cache } from './cache.ts';
import type { GetOrSetOptions } from './options.ts';

export interface WrapOptions<Arguments extends readonly unknown[]>
  extends Omit<GetOrSetOptions, 'dependsOn'> {
  /** Makes the key of the answer to these arguments; a string for a function without any. Every argument that the answer depends on has to be part of it. */
  readonly key: string | ((...given: Arguments) => string);
  /** What else the answer to these arguments is made of, as in getOrSet. */
  readonly dependsOn?: ((...given: Arguments) => readonly string[]) | readonly string[] | undefined;
}

/**
 * @throws CacheError INVALID_LOAD for what is no function; INVALID_CONFIGURATION for a key that is none
 */
export function wrapWith<Arguments extends readonly unknown[], T>(
  getOrSet: Cache['getOrSet'],
  load: (...given: Arguments) => T | PromiseLike<T>,
  options: WrapOptions<Arguments>,
): (...given: Arguments) => Promise<T> {
  if (typeof load !== 'function') {
    throw new CacheError('INVALID_LOAD', 'wrap takes a function and its options.');
  }
  if (typeof options?.key !== 'function' && typeof options?.key !== 'string') {
    throw new CacheError(
      'INVALID_CONFIGURATION',
      'The key of wrap is a function of the same arguments, or a string.',
    );
  }
  const { key, dependsOn, ...rest } = options;
  return async (...given) => {
    // All arguments would share one answer.
    if (typeof key === 'string' && given.length > 0) {
      throw new CacheError(
        'INVALID_CONFIGURATION',
        'With arguments the key of wrap must be a function of them.',
      );
    }
    const scopes = typeof dependsOn === 'function' ? dependsOn(...given) : dependsOn;
    return getOrSet(typeof key === 'string' ? key : key(...given), () => load(...given), {
      ...rest,
      dependsOn: scopes,
    });
  };
}
