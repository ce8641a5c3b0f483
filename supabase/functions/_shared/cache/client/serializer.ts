/**
 * What a value becomes on its way into an entry, and back: as it is, if JSON keeps it; else by the application's serializer, such as
 * superjson, which turns a Date, a bigint or a Map into a text. null and undefined are absences, and never given to it.
 *
 * A value is kept only if the serializer gives it back equal, as JSON must: superjson makes `{}` of a Response, and a plain object of an
 * instance whose class it does not know. So each value is read back once before it is stored.
 *
 * An entry says which serializer wrote it, and is a miss for any other: devalue would read a text of superjson, and give something else.
 * It is known by the texts that it makes, which stay the same in every build; the name of a function does not.
 */

import type { Envelope } from '../protocol/entry.ts';
import { shortHash } from '../protocol/key-state.ts';
import { sameValue } from './same-value.ts';
import { failedAnswer, UnsupportedValue, unsupportedIn } from './values.ts';

export interface Serializer {
  /** What `stringify` gave, back as a value. */
  readonly parse: (text: string) => unknown;
  /** A text that holds the whole value; throws for what it can't keep. */
  readonly stringify: (value: unknown) => string;
}

/** What to store: JSON keeps `value`; `serializer`: it is the text of that one of the application's. */
export interface Encoded {
  readonly value: unknown;
  readonly serializer: string | null;
}

export class Values {
  readonly #serializer: Serializer | undefined;
  readonly #name: string;

  constructor(serializer: Serializer | undefined) {
    this.#serializer = serializer;
    this.#name = serializer === undefined ? '' : nameOf(serializer);
  }

  /** The value as it is stored, or the error UNSUPPORTED_VALUE, which never holds the value. */
  encode(value: unknown): Encoded | UnsupportedValue {
    if (this.#serializer === undefined || value === null || value === undefined) {
      return unsupportedIn(value) ?? { value, serializer: null };
    }
    let inWords = 'the serializer gives no text for it.';
    let cause: unknown;
    try {
      const failed = failedAnswer(value);
      if (failed !== null) return failed;
      const text: unknown = this.#serializer.stringify(value);
      const again = typeof text === 'string' ? this.#serializer.parse(text) : text;
      if (typeof text === 'string' && sameValue(value, again)) return { value: text, serializer: this.#name };
      if (isPromise(again)) inWords = 'the serializer gives a promise; it has to answer at once.';
      else if (typeof text === 'string')
        inWords =
          'the serializer would change it (a Response, a promise, a function, a class it does not know).';
    } catch (error) {
      cause = error;
    }
    return new UnsupportedValue(`The value is not kept: ${inWords}`, inWords, { cause });
  }

  /** The value of an entry, or undefined when this cache can't read it. */
  decode({ value, serializer }: Envelope): { readonly value: unknown } | undefined {
    if (serializer === null) return { value };
    try {
      if (typeof value === 'string' && this.#serializer !== undefined && serializer === this.#name) {
        const parsed = this.#serializer.parse(value);
        if (parsed !== null && parsed !== undefined && !isPromise(parsed)) return { value: parsed };
      }
    } catch {
      // Written by another version of the application, perhaps.
    }
    return undefined;
  }

  /** A copy for a second caller of one load; undefined for what can't be copied: structuredClone refuses a Proxy, which JSON would take. */
  copy(value: unknown): { readonly value: unknown } | undefined {
    try {
      if (this.#serializer === undefined || value === null || value === undefined) {
        return { value: structuredClone(value) };
      }
      return { value: this.#serializer.parse(this.#serializer.stringify(value)) };
    } catch {
      return undefined;
    }
  }
}

/** Whether it is a promise, whose rejection then reaches nobody. */
function isPromise(value: unknown): boolean {
  if (typeof (value as { then?: unknown } | null | undefined)?.then !== 'function') return false;
  Promise.resolve(value).catch(() => {});
  return true;
}

/** The same for two serializers that write the same texts; a text that is new each time, as of one that encrypts, does not count. */
function nameOf(serializer: Serializer): string {
  const textOf = (value: unknown): unknown => {
    try {
      const text: unknown = serializer.stringify(value);
      return isPromise(text) ? null : text;
    } catch {
      return null;
    }
  };
  const texts = [[{ a: 1 }], new Date(0), BigInt(1), new Map([[1, new Set([2])]]), [undefined]].map(
    (value) => {
      const text = textOf(value);
      return text === textOf(value) ? text : null;
    },
  );
  return shortHash(JSON.stringify(texts));
}
