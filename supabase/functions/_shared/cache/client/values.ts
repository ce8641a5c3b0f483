/**
 * What a loader may give: which values the cache keeps, and how a batch loader's answer is read.
 *
 * The cache keeps the values that JSON gives back equal, so that a hit and a miss answer alike. JSON itself refuses only cycles
 * and bigints. A Map, a Response, an Error or a promise would silently come back as `{}`, and NaN as null.
 *
 * These pass: null, booleans, strings, finite numbers but -0, arrays, and objects whose prototype is Object.prototype. A property
 * that is undefined disappears, which reads the same. These do not pass: an object without a prototype, which would get one; a property
 * that JSON leaves out (its name is a symbol, or it is not enumerable, as in `arguments`); an array with a hole, which would turn into
 * null; an array with properties of its own beside its elements; a value that throws when it is read.
 *
 * A value is walked a second time only when something is wrong with it. The first walk answers yes or no and builds nothing; it
 * takes about as long as JSON.stringify. The second finds the place and the words.
 *
 * An answer of supabase-js that holds an error is JSON, but no answer: it is not kept either.
 */
import { CacheError } from '../protocol/errors.ts';
import { isPlainObject, isRecord, isRoot } from '../protocol/plain-objects.ts';

/** Deeper than any answer of a database, and far from where JSON.stringify runs out of stack. Cycles end here too. */
const DEEPEST = 1_000;

/** Why a value is not kept: the message names the place (`$.resets_at`) and the remedy, never the value. */
export class UnsupportedValue extends CacheError {
  /** What a log line may say: no name of a property, which may be data. */
  readonly inWords: string;

  constructor(message: string, inWords: string, options?: { cause: unknown }) {
    super('UNSUPPORTED_VALUE', message, options);
    this.inWords = inWords;
  }
}

const CHANGED =
  'JSON would change it (a Date, a bigint, a Map, a Response, an instance of a class, NaN, -0). Convert it in the loader; the error ' +
  'that onError gets says where it is.';

/** Shown as it is to be written. */
const FAILED_ANSWER =
  'it is an answer of supabase-js that holds an error. Let the query throw, and give its data alone: ' +
  '`const { data } = await supabase.from(…).select(…).throwOnError(); return data;`.';

/** Null for a value that the cache keeps. */
export function unsupportedIn(value: unknown): UnsupportedValue | null {
  let found: Found;
  try {
    const failed = failedAnswer(value);
    if (failed !== null) return failed;
    if (value === undefined || isKept(value, 0)) return null;
    found = findUnsupported(value, '$', []) ?? { path: '$', kind: 'something' };
  } catch (cause) {
    const message =
      'The value throws when it is read (a getter, a Proxy). Give a plain copy of it in the loader.';
    return new UnsupportedValue(message, CHANGED, { cause });
  }
  const { path, kind } = found;
  return new UnsupportedValue(
    `The value at ${path} is ${kind}, which JSON would change. Convert it in the loader (a Date with toISOString(), ` +
      'a bigint with toString(), a Map or Set to an array, a Response with await response.json(), an instance of a class ' +
      'or an object without a prototype to a plain object with { ...it }, -0 with it + 0).',
    CHANGED,
  );
}

/** What supabase-js gives for a query that failed, or found no row for single(): `{ data: null, error: { … } }`. */
export function failedAnswer(value: unknown): UnsupportedValue | null {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, 'data')) return null;
  if (!Object.hasOwn(value, 'error') || ((value as { error?: unknown }).error ?? null) === null) return null;
  return new UnsupportedValue(`The value is not kept: ${FAILED_ANSWER}`, FAILED_ANSWER);
}

function isKept(value: unknown, depth: number): boolean {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return true;
    case 'number':
      return Number.isFinite(value) && !Object.is(value, -0);
    case 'object':
      break;
    default:
      return false;
  }
  if (value === null) return true;
  if (depth === DEEPEST) return false;
  if (Array.isArray(value)) {
    // A property beside the elements and `length` (`index` of a match, `count` of a result) would be gone after a hit.
    if (!isPlainArray(value) || Reflect.ownKeys(value).length !== value.length + 1) return false;
    for (let index = 0; index < value.length; index++) {
      if (!isKept(value[index], depth + 1)) return false;
    }
    return true;
  }
  if (!isPlainObject(value)) return false;
  const names = Object.keys(value);
  if (hiddenIn(value, names.length) !== null) return false;
  for (const name of names) {
    const child = (value as Readonly<Record<string, unknown>>)[name];
    if (child !== undefined && !isKept(child, depth + 1)) return false;
  }
  return true;
}

/** What of an object JSON leaves out. @param enumerable how many properties it does not */
function hiddenIn(value: object, enumerable: number): string | null {
  // `arguments` is known by its iterator.
  if (Object.getOwnPropertySymbols(value).length > 0) return 'with properties named by symbols';
  return Object.getOwnPropertyNames(value).length > enumerable
    ? 'with properties that are not enumerable'
    : null;
}

export function isPlainArray(value: readonly unknown[]): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Array.prototype || (prototype !== null && isRoot(Object.getPrototypeOf(prototype)));
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
      return { path, kind: nameOf(value) };
    }
    if (Array.isArray(value)) {
      const isBeside = (name: string | symbol) => typeof name === 'symbol' || !/^([0-9]+|length)$/.test(name);
      if (Reflect.ownKeys(value).some(isBeside)) return { path, kind: 'an array with properties of its own' };
    } else {
      const hidden = hiddenIn(value, Object.keys(value).length);
      if (hidden !== null) return { path, kind: `${tagOf(value)} ${hidden}` };
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
  if (typeof value === 'number') return { path, kind: value === 0 ? '-0' : 'NaN or infinite' };
  return { path, kind: typeof value === 'undefined' ? 'undefined' : `a ${typeof value}` };
}

function nameOf(value: object): string {
  if (Object.getPrototypeOf(value) === null) return 'an object without a prototype';
  const made: unknown = value.constructor;
  return `a ${typeof made === 'function' && made.name !== '' ? made.name : 'instance of a class'}`;
}

function tagOf(value: object): string {
  return Object.prototype.toString.call(value) === '[object Arguments]'
    ? '`arguments`, an object'
    : 'an object';
}

/**
 * How to look a key up in what a batch loader gave: anything with `get` and `has` (a Map, also of another realm, or another
 * ReadonlyMap), or a plain object whose properties are the keys. Anything else is refused, because a key that is not found is
 * cached as absent: a mistake in the answer's shape would be cached for every key.
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
  if (!isRecord(loaded)) return 'an object that is neither a Map nor a plain object';
  // More than was asked for is welcome, and so is nothing; but `{ rows: … }` and `{ data: …, error: … }` are no keys.
  const names = Object.keys(loaded);
  const foreign = names.length > 0 && !names.some((name) => name.includes(':') || wanted.includes(name));
  return foreign ? 'an object none of whose properties is a key it was asked for' : null;
}
