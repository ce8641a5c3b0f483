/**
 * What a fence's value says: `{128 random bits}.{made}.{life}`, in seconds since 1970 and in seconds; a life of 0 is for ever.
 *
 * The random bits alone decide whether an entry is a hit: values are compared as a whole. The times only tell a reader, without
 * asking Redis, whether a fence has to be kept alive. What the value says counts, not what a key type declares: the maker may have
 * had another catalogue.
 */

/** A fence lives for so many times the longest-lived entry that it was made for, within limits. So it is seldom renewed. */
const LIVES = 8;
const SHORTEST_SECONDS = 600;
const LONGEST_SECONDS = 30 * 86_400;

/** An entry that lives longer than the limit must not outlive its fence. */
const MARGIN = 1.1;

export interface FenceTimes {
  /** Seconds since 1970, by the maker's clock. */
  readonly madeAt: number;
  /** Null: for ever. */
  readonly seconds: number | null;
}

/** @param seconds how long it is to live; null: for ever */
export function fenceValue(random: string, now: number, seconds: number | null): string {
  return `${random}.${Math.floor(now / 1_000)}.${seconds ?? 0}`;
}

/** Null for a value without times: an older version of the client made the fence. */
export function fenceTimes(value: string): FenceTimes | null {
  const [, madeAt, seconds] = /\.([0-9]{1,12})\.([0-9]{1,12})$/.exec(value) ?? [];
  if (madeAt === undefined) return null;
  return { madeAt: Number(madeAt), seconds: Number(seconds) || null };
}

/** Seconds for a fence whose entries live at most so many milliseconds. */
export function fenceSeconds(longestMs: number): number {
  const seconds = longestMs / 1_000;
  const usual = Math.min(Math.max(seconds * LIVES, SHORTEST_SECONDS), LONGEST_SECONDS);
  return Math.ceil(Math.max(usual, seconds * MARGIN));
}
