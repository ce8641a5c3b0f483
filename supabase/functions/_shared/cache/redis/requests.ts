/**
 * How much fits into one request. Upstash takes 10 MB a request, 1 MB on old plans, and a DEL of very many keys holds up every
 * other command of the database while it runs.
 */

export const MOST_KEYS = 10_000;

/** Below 1 MB with the command's own text. */
export const MOST_BYTES = 900_000;

/**
 * Splits items into groups that keep their order.
 *
 * @param sizeOf an item's share of `mostSize`; an item that is larger gets a group of its own
 */
export function* groupsOf<T>(
  items: Iterable<T>,
  sizeOf: (item: T) => number,
  mostSize: number,
  mostItems = Number.POSITIVE_INFINITY,
): Generator<T[], undefined> {
  let group: T[] = [];
  let size = 0;
  for (const item of items) {
    const added = sizeOf(item);
    if (group.length > 0 && (group.length >= mostItems || size + added > mostSize)) {
      yield group;
      group = [];
      size = 0;
    }
    group.push(item);
    size += added;
  }
  if (group.length > 0) yield group;
}

/** Keys in as few groups as one DEL each can name. @param prefix what each key gets in front */
export function splitKeys(keys: Iterable<string>, prefix = ''): string[][] {
  // A character is at most three bytes; each key has two quotes and a comma.
  const sizeOf = (key: string) => (prefix.length + key.length) * 3 + 3;
  return [...groupsOf(keys, sizeOf, MOST_BYTES, MOST_KEYS)];
}
