/** Times in options. */
import { LONGEST_SECONDS } from '../protocol/key-types.ts';
import type { Rule } from './option-rules.ts';

const UNIT_SECONDS = { ms: 0.001, s: 1, m: 60, h: 3_600, d: 86_400 };

/** Seconds, or a text with its unit: `300` and `'5m'` are the same. */
export type Time = number | `${number}${keyof typeof UNIT_SECONDS}`;

const TEXT = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/;

export const TIME: Rule = {
  expected: `a number of seconds, or a text such as '30s', '5m', '1h' or '1d', from 0 to ${LONGEST_SECONDS}`,
  accepts: (value) => {
    const seconds = typeof value === 'string' ? secondsIn(value) : value;
    return typeof seconds === 'number' && seconds >= 0 && seconds <= LONGEST_SECONDS;
  },
};

/**
 * Rounded up, since Redis takes whole milliseconds: a short time must not become 0, which means not to store.
 * @param time one that TIME accepts
 */
export function secondsAsMs(time: Time): number {
  return Math.ceil((typeof time === 'string' ? secondsIn(time) : time) * 1_000);
}

/** NaN for a text that is no time; `'60'` has no unit, so it may mean anything. */
function secondsIn(text: string): number {
  const [, amount, unit] = TEXT.exec(text) ?? [];
  // In whole milliseconds: 0.007 of a second is no exact number.
  return Math.round(Number(amount) * UNIT_SECONDS[unit as keyof typeof UNIT_SECONDS] * 1e6) / 1e6;
}
