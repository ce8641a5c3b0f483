/**
 * Splits the keys of a batch into DELs that Upstash accepts: it takes requests of at most 10 MB (1 MB on old plans), and a
 * DEL of very many keys holds up every other command of the database while it runs.
 */

/** Well under 1 MB with the command's own text; a key counts with its quotes and comma, at three bytes a character. */
export const REQUEST_BYTES_MOST = 900_000;
export const REQUEST_KEYS_MOST = 10_000;

/** @returns the same keys in the same order, in groups */
export function splitKeys(keys: Iterable<string>): string[][] {
  const groups: string[][] = [];
  let group: string[] = [];
  let bytes = 0;
  for (const key of keys) {
    const size = key.length * 3 + 3;
    if (group.length > 0 && (group.length >= REQUEST_KEYS_MOST || bytes + size > REQUEST_BYTES_MOST)) {
      groups.push(group);
      group = [];
      bytes = 0;
    }
    group.push(key);
    bytes += size;
  }
  if (group.length > 0) groups.push(group);
  return groups;
}
