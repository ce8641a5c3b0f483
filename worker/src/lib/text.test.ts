import { expect, it } from 'vitest';
import { printable } from './text.ts';

it('writes control characters out, and leaves lines, colours and other scripts', () => {
  expect(printable('a\x1b[2Jb\x07c\rd\x9be\x00')).toBe('a\\u001b[2Jb\\u0007c\\u000dd\\u009be\\u0000');
  expect(JSON.parse(printable(JSON.stringify('\x1b\x9b\x7f')))).toBe('\x1b\x9b\x7f');
  const harmless = 'zwei\nZeilen, \x1b[1;31mrot\x1b[0m, العربية 🦔';
  expect(printable(harmless)).toBe(harmless);
});
