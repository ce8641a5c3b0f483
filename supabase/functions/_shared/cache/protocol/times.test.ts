import { expect, it } from 'vitest';
import { isTime, secondsAsMs, type Time } from './times.ts';

it.each<[Time, number]>([
  [300, 300_000],
  ['5m', 300_000],
  ['1.5h', 5_400_000],
  ['2d', 172_800_000],
  // No binary fraction, and rounded up all the same.
  [0.007, 7],
  [16.1, 16_100],
  ['16.1s', 16_100],
  [0.0101, 11],
  ['10.1ms', 11],
  ['0.0004ms', 1],
  [0.0000004, 1],
  [0, 0],
  ['0s', 0],
])('%j is %d ms', (time, milliseconds) => {
  expect(isTime(time)).toBe(true);
  expect(secondsAsMs(time)).toBe(milliseconds);
});

it.each([
  '',
  '5',
  'm',
  '-5s',
  '1e3s',
  '0x10m',
  '5 m',
  -1,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  '3651d',
  null,
  [5],
])('%j is none', (value) => {
  expect(isTime(value)).toBe(false);
});
