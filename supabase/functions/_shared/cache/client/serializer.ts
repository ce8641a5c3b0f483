/**
 * What a value becomes on its way into an entry, and back: as it is, if JSON keeps it; else by the application's serializer, such as
 * superjson, which turns a Date, a bigint or a Map into a text. null and undefined are absences, and never given to it.
 */

import type { Envelope } from '../protocol/entry.ts';
import { failedAnswer, UnsupportedValue, unsupportedIn } from './values.ts';

export interface Serializer {
  /** What `stringify` gave, back as a value. */
  readonly parse: (text: string) => unknown;
  /** A text that holds the whole value; throws for what it can't keep. */
  readonly stringify: (value: unknown) => string;
}

/** What to store: JSON keeps `value`; `serialized`: it is the text of the application's serializer. */
export interface Encoded {
  readonly value: unknown;
  readonly serialized: boolean;
}

export class Values {
  readonly #serializer: Serializer | undefined;

  constructor(serializer: Serializer | undefined) {
    this.#serializer = serializer;
  }

  /** The value as it is stored, or the error UNSUPPORTED_VALUE, which never holds the value. */
  encode(value: unknown): Encoded | UnsupportedValue {
    if (this.#serializer === undefined || value === null || value === undefined) {
      return unsupportedIn(value) ?? { value, serialized: false };
    }
    let text: unknown;
    let cause: unknown;
    try {
      const failed = failedAnswer(value);
      if (failed !== null) return failed;
      text = this.#serializer.stringify(value);
    } catch (error) {
      cause = error;
    }
    if (typeof text === 'string') return { value: text, serialized: true };
    const inWords = 'the serializer gives no text for it.';
    return new UnsupportedValue(`The value is not kept: ${inWords}`, inWords, { cause });
  }

  /** The value of an entry, or undefined when this cache can't read it. */
  decode({ value, serialized }: Envelope): { readonly value: unknown } | undefined {
    if (!serialized) return { value };
    try {
      if (typeof value === 'string' && this.#serializer !== undefined) {
        return { value: this.#serializer.parse(value) };
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
