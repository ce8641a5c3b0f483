/**
 * What a batch loader may give: something to look keys up in. Whatever else it gives is refused, because a key that is not found
 * is cached as absent, and so a mistake in the answer's shape would be cached for every key.
 */
import { CacheError } from '../protocol/errors.ts';
import { isPlainObject } from './json-values.ts';

/**
 * How to look a key up in what a loader gave: anything with `get` and `has` (a Map, also of another realm, or another
 * ReadonlyMap), or a plain object whose properties are the keys.
 * @param wanted the keys that it was asked for
 * @throws CacheError INVALID_LOAD for anything else, such as a Set, a driver's result or supabase-js's `{ data, error }`
 */
export function valuesOf(loaded: unknown, wanted: readonly string[]): (key: string) => unknown {
  if (isMap(loaded)) return (key) => loaded.get(key);
  const problem = problemOf(loaded, wanted);
  if (problem === null) {
    const record = loaded as Readonly<Record<string, unknown>>;
    return (key) => (Object.hasOwn(record, key) ? record[key] : undefined);
  }
  throw new CacheError(
    'INVALID_LOAD',
    `The batch loader gave ${problem}. Give a Map from key to value, or an object whose properties are the keys.`,
  );
}

function isMap(loaded: unknown): loaded is ReadonlyMap<string, unknown> {
  if (typeof loaded !== 'object' || loaded === null) return false;
  const { get, has } = loaded as { get?: unknown; has?: unknown };
  return typeof get === 'function' && typeof has === 'function';
}

function problemOf(loaded: unknown, wanted: readonly string[]): string | null {
  if (typeof loaded !== 'object' || loaded === null) return loaded === null ? 'null' : typeof loaded;
  if (Array.isArray(loaded)) return 'an array, which does not say what belongs to which key';
  if (!isPlainObject(loaded)) return 'an object that is neither a Map nor a plain object';
  // More than was asked for is welcome, and so is nothing; but `{ rows: … }` and `{ data: …, error: … }` are no keys.
  const names = Object.keys(loaded);
  const foreign = names.length > 0 && !names.some((name) => name.includes(':') || wanted.includes(name));
  return foreign ? 'an object none of whose properties is a key it was asked for' : null;
}
