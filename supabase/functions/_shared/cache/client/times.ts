/** Times and sizes in options, and the check that they can work. */
import { CacheError } from '../protocol/errors.ts';
import { LONGEST_SECONDS } from '../protocol/key-types.ts';

const UNIT_SECONDS = { ms: 0.001, s: 1, m: 60, h: 3_600, d: 86_400 };

/** Seconds, or a text with its unit: `300` and `'5m'` are the same. */
export type Time = number | `${number}${keyof typeof UNIT_SECONDS}`;

const TEXT = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;

/** Rounded up, since Redis takes whole milliseconds: a short time must not become 0, which means not to store. */
export function secondsAsMs(name: string, time: Time): number {
  const seconds = typeof time === 'string' ? secondsIn(time) : time;
  return Math.ceil(
    checked(name, seconds, 0, LONGEST_SECONDS, "seconds, or a text such as '30s', '5m', '1h' or '1d',") *
      1_000,
  );
}

/** NaN for a text that is no time; `'60'` has no unit, so it may mean anything. */
function secondsIn(text: string): number {
  const [, amount, unit] = TEXT.exec(text) ?? [];
  // In whole milliseconds: 0.007 of a second is no exact number.
  return Math.round(Number(amount) * UNIT_SECONDS[unit as keyof typeof UNIT_SECONDS] * 1e6) / 1e6;
}

export function milliseconds(name: string, value: number, most: number, least = 0): number {
  return Math.ceil(checked(name, value, least, most, 'milliseconds'));
}

export function checked(name: string, value: number, least: number, most: number, unit: string): number {
  if (typeof value === 'number' && value >= least && value <= most) return value;
  throw new CacheError(
    'INVALID_CONFIGURATION',
    `${name} must be a number of ${unit} from ${least} to ${most}; leave it out for the default.`,
  );
}
