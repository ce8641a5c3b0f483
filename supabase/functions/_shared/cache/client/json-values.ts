/**
 * Which values the cache keeps: those that JSON gives back equal, so that a hit and a miss answer alike. JSON itself refuses
 * only cycles and bigints; a Map, a Response, an Error or a promise would silently come back as `{}`, NaN as null.
 *
 * What passes: null, booleans, strings, finite numbers, arrays, and objects whose prototype is Object.prototype or null.
 * A property that is undefined disappears, which reads the same; a hole of an array would turn into null, so it does not pass,
 * nor does an array with properties of its own beside its elements, nor a value that throws when it is looked at.
 *
 * A value is walked twice only when something is wrong with it: the first walk answers yes or no and builds nothing, so that
 * it costs a fraction of JSON.stringify; the second finds the words.
 */
import { CacheError } from '../protocol/errors.ts';

/** Deeper than any answer of a database, and far from where JSON.stringify runs out of stack. Cycles end here too. */
const DEEPEST = 1_000;

/** Null for a value that the cache keeps; else the error that names the place (`$.resets_at`) and the remedy, never the value. */
export function unsupportedIn(value: unknown): CacheError | null {
  let found: Found;
  try {
    if (value === undefined || isKept(value, 0)) return null;
    found = findUnsupported(value, '$', []) ?? { path: '$', kind: 'something' };
  } catch (cause) {
    return new CacheError(
      'UNSUPPORTED_VALUE',
      'The value throws when it is looked at (a getter, a Proxy). Give a plain copy of it in the loader.',
      { cause },
    );
  }
  const { path, kind } = found;
  return new CacheError(
    'UNSUPPORTED_VALUE',
    `The value at ${path} is ${kind}, which JSON would change. Convert it in the loader (a Date with toISOString(), ` +
      'a bigint with toString(), a Map or Set to an array, a Response with await response.json(), an instance of a class ' +
      'to a plain object).',
  );
}

function isKept(value: unknown, depth: number): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return true;
    case 'number':
      return Number.isFinite(value);
    case 'object':
      break;
    default:
      return false;
  }
  if (value === null) return true;
  if (depth === DEEPEST) return false;
  if (Array.isArray(value)) {
    // A property beside the elements (`index` of a match, `count` of a result) would be gone after a hit.
    if (!isPlainArray(value) || Object.keys(value).length !== value.length) return false;
    for (let index = 0; index < value.length; index++) {
      if (!isKept(value[index], depth + 1)) return false;
    }
    return true;
  }
  if (!isPlainObject(value)) return false;
  for (const name of Object.keys(value)) {
    const child = (value as Readonly<Record<string, unknown>>)[name];
    if (child !== undefined && !isKept(child, depth + 1)) return false;
  }
  return true;
}

/** Also of another realm, such as a test runner's: its Object.prototype is the one that has no prototype itself. */
export function isPlainObject(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null || isRoot(prototype);
}

function isPlainArray(value: readonly unknown[]): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Array.prototype || (prototype !== null && isRoot(Object.getPrototypeOf(prototype)));
}

function isRoot(prototype: unknown): boolean {
  return (
    typeof prototype === 'object' &&
    prototype !== null &&
    Object.getPrototypeOf(prototype) === null &&
    Object.hasOwn(prototype, 'hasOwnProperty')
  );
}

interface Found {
  readonly path: string;
  readonly kind: string;
}

function findUnsupported(value: unknown, path: string, above: readonly object[]): Found | null {
  if (typeof value === 'object' && value !== null) {
    if (above.includes(value)) return { path, kind: 'a cycle' };
    if (above.length === DEEPEST) return { path: '$', kind: 'nested too deeply' };
    if (Array.isArray(value) ? !isPlainArray(value) : !isPlainObject(value)) {
      return { path, kind: `a ${nameOf(value)}` };
    }
    if (Array.isArray(value) && Object.keys(value).some((name) => !/^[0-9]+$/.test(name))) {
      return { path, kind: 'an array with properties of its own' };
    }
    for (const [name, child] of Array.isArray(value) ? value.entries() : Object.entries(value)) {
      if (child === undefined && !Array.isArray(value)) continue;
      const place = typeof name === 'number' ? `${path}[${name}]` : `${path}.${name}`;
      const found = findUnsupported(child, place, [...above, value]);
      if (found !== null) return found;
    }
    return null;
  }
  if (isKept(value, 0)) return null;
  if (typeof value === 'number') return { path, kind: 'NaN or infinite' };
  return { path, kind: typeof value === 'undefined' ? 'undefined' : `a ${typeof value}` };
}

function nameOf(value: object): string {
  const made: unknown = value.constructor;
  return typeof made === 'function' && made.name !== '' ? made.name : 'instance of a class';
}
