/** Times in options and key types. */

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Seconds, or a text with its unit: `300` and `'5m'` are the same. The number is of digits and a point; types can't say that. */
export type Time = number | `${number}${keyof typeof UNIT_MS}`;

/** Ten years. A larger number was most likely meant in milliseconds. */
export const LONGEST_SECONDS = 315_360_000;

export const TIME_IN_WORDS = `a number of seconds, or a text such as '30s', '5m', '1h' or '1d', from 0 to ${LONGEST_SECONDS}`;

const TEXT = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;

export function isTime(value: unknown): value is Time {
  if (typeof value !== 'number' && typeof value !== 'string') return false;
  const milliseconds = millisecondsIn(value);
  return milliseconds >= 0 && milliseconds <= LONGEST_SECONDS * 1_000;
}

/** Rounded up, since Redis takes whole milliseconds: a short time must not become 0, which means not to store. */
export function secondsAsMs(time: Time): number {
  // 16.1 seconds are no more than 16 100 milliseconds, whatever the product of the two is.
  return Math.ceil(Number(millisecondsIn(time).toPrecision(15)));
}

/** NaN for a text that is no time; `'60'` has no unit, so it may mean anything. */
function millisecondsIn(time: number | string): number {
  if (typeof time === 'number') return time * UNIT_MS.s;
  const [, amount, unit] = TEXT.exec(time) ?? [];
  return Number(amount) * UNIT_MS[unit as keyof typeof UNIT_MS];
}
