import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileGlob, escapeGlob } from './glob.ts';

describe('globs', () => {
  it.each([
    ['*', '', true],
    ['a*c', 'abbc', true],
    ['a*c', 'ab', false],
    ['a?c', 'abc', true],
    ['a?c', 'ac', false],
    ['[a-c]x', 'bx', true],
    ['[c-a]x', 'bx', true],
    ['[^a]x', 'ax', false],
    ['[^a]x', 'bx', true],
    ['[a\\]]x', ']x', true],
    ['\\*', '*', true],
    ['\\*', 'x', false],
    ['a[bc', 'ab', true],
    ['a**b', 'ab', true],
    ['quota:*:openai:*', 'quota:org:openai:', true],
    ['quota:*:openai:*', 'quota:org:mistral:x', false],
  ])('%s against %j', (glob, text, matches) => {
    expect(compileGlob(glob).matches(text)).toBe(matches);
  });

  it('escaped text matches itself and nothing else', () => {
    const text = fc.string({ unit: fc.constantFrom('a', '*', '?', '[', ']', '\\', '^', '-', ':') });
    fc.assert(
      fc.property(text, text, (one, other) => {
        expect(compileGlob(escapeGlob(one)).matches(other)).toBe(one === other);
      }),
    );
  });

  it('a match could be foreseen from every one of its beginnings', () => {
    const part = fc.string({ unit: fc.constantFrom('a', 'b', '*', '?', '[ab]', ':'), maxLength: 6 });
    const text = fc.string({ unit: fc.constantFrom('a', 'b', ':'), maxLength: 8 });
    fc.assert(
      fc.property(part, text, fc.nat(8), (glob, whole, cut) => {
        const compiled = compileGlob(glob);
        if (!compiled.matches(whole)) return;
        expect(compiled.couldMatchFrom(whole.slice(0, cut))).toBe(true);
        expect(whole.startsWith(compiled.literalStart)).toBe(true);
      }),
    );
    expect(compileGlob('quota:*:openai').couldMatchFrom('cost:')).toBe(false);
    expect(compileGlob('quota:org-1*').couldMatchFrom('quota:org-2:')).toBe(false);
  });

  it('takes no exponential time', () => {
    expect(compileGlob(`${'a*'.repeat(60)}b`).matches('a'.repeat(2_000))).toBe(false);
  });
});
