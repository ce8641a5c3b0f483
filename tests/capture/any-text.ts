/** Texts that could be mistaken for something else: separators, wildcards, quotes, every character of Unicode. */
import fc from 'fast-check';

/** Everything that Postgres can hold in text: any scalar value but NUL. */
const character = fc
  .integer({ min: 1, max: 0x10f7ff })
  .map((point) => String.fromCodePoint(point < 0xd800 ? point : point + 0x800));
const hostile = fc.constantFrom(
  '*',
  '?',
  '[',
  ']',
  ':',
  '::',
  '%',
  '%2A',
  '%3A',
  '~',
  '\n',
  '\r',
  '\t',
  ' ',
  '\\',
  '/',
  "'",
  '"',
  '$1',
  '{}',
  '--',
  '\u202e',
  '\u0301',
  '\ufeff',
  'ab\u200bc',
  'اللغة',
  'é',
  'e\u0301',
  '😀',
  'a'.repeat(199),
  'a'.repeat(200),
  'a'.repeat(201),
  'model'.repeat(2048),
);
export const anyText = fc
  .array(
    fc.oneof(
      { weight: 3, arbitrary: character },
      { weight: 2, arbitrary: hostile },
      { weight: 2, arbitrary: fc.string() },
    ),
    {
      maxLength: 60,
    },
  )
  .map((parts) => parts.join('').replaceAll('\0', ''));
