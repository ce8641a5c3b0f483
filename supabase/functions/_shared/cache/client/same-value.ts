/** Whether a serializer gave a value back as it was. */
import { isPlainObject } from '../protocol/plain-objects.ts';
import { isPlainArray } from './values.ts';

/**
 * What a program can see is the same: prototypes, contents, and every property but those that are undefined, whose absence reads the
 * same. The private parts of an instance can't be seen; its class counts. Errors are their name and message, since no two have one stack.
 */
export function sameValue(one: unknown, other: unknown, seen = new Set<unknown>()): boolean {
  if (Object.is(one, other)) return true;
  if (!isObject(one) || !isObject(other)) return false;
  if (one instanceof Error && other instanceof Error)
    return one.name === other.name && one.message === other.message;
  if (!sameKind(one, other)) return false;
  // Cycles end here.
  if (seen.has(one)) return true;
  seen.add(one);
  if (one instanceof Map || one instanceof Set)
    return sameValue([...one], [...(other as Iterable<unknown>)], seen);
  if (one instanceof Date) return Object.is(one.getTime(), (other as Date).getTime());
  if (one instanceof RegExp || one instanceof URL) return String(one) === String(other);
  const names = new Set([...Reflect.ownKeys(one), ...Reflect.ownKeys(other)]);
  return [...names].every((name) => sameValue(Reflect.get(one, name), Reflect.get(other, name), seen));
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}

/** Of one class; plain objects and arrays also of two realms, such as a test runner's. */
function sameKind(one: object, other: object): boolean {
  if (Object.getPrototypeOf(one) === Object.getPrototypeOf(other)) return true;
  if (Array.isArray(one)) return Array.isArray(other) && isPlainArray(one) && isPlainArray(other);
  return isPlainObject(one) && isPlainObject(other);
}
