/** What a program wrote as `{ … }`: no list, no Date, no Map, no instance of a class. */

/** Also of another realm, such as a test runner's: its Object.prototype is the one that has no prototype itself. */
export function isPlainObject(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || isRoot(prototype);
}

/** A plain object, with a prototype or without. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return (
    typeof value === 'object' &&
    value !== null &&
    (isPlainObject(value) || Object.getPrototypeOf(value) === null)
  );
}

/** Whether this is the Object.prototype of some realm. */
export function isRoot(prototype: unknown): boolean {
  return (
    typeof prototype === 'object' &&
    prototype !== null &&
    Object.getPrototypeOf(prototype) === null &&
    Object.hasOwn(prototype, 'hasOwnProperty')
  );
}
