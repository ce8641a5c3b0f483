import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deletionsFor, fencesOf } from './fences.ts';

const exact = (...keys: string[]) => ({ keys, newEpoch: false, sweep: null });

describe('fencesOf', () => {
  it.each([
    ['quota:org-1:openai:gpt', 2, ['fence:quota', 'fence:quota:org-1']],
    ['cost:openai:gpt', 3, ['fence:cost', 'fence:cost:openai:*', 'fence:cost:openai:gpt']],
    ['a:b:c:d', 4, ['fence:a', 'fence:a:b:*', 'fence:a:b:c:*', 'fence:a:b:c:d']],
    ['a:b:c', undefined, ['fence:a', 'fence:a:b:*', 'fence:a:b:c']],
    [`a${':b'.repeat(40)}`, undefined, ['fence:a', 'fence:a:b']],
    ['a:b', undefined, ['fence:a', 'fence:a:b']],
    ['a:b', 3, ['fence:a', 'fence:a:b']],
    ['a', undefined, ['fence:a']],
    ['quota:', undefined, ['fence:quota', 'fence:quota:']],
  ])('%s with an entity of %s segments', (key, entityDepth, fences) => {
    expect(fencesOf(key, entityDepth)).toEqual(fences);
  });

  it.each(['', 'fence:quota', 'fencepost:heartbeat', 'fence'])('refuses %j', (key) => {
    expect(() => fencesOf(key)).toThrow(expect.objectContaining({ code: 'INVALID_KEY' }));
  });
});

describe('deletionsFor', () => {
  it.each([
    ['*', { keys: [], newEpoch: true, sweep: null }],
    ['quota:*', exact('fence:quota')],
    ['quota:org-1:*', exact('fence:quota:org-1', 'fence:quota:org-1:*')],
    [
      'quota:org-1:openai:*',
      exact('fence:quota:org-1', 'fence:quota:org-1:openai', 'fence:quota:org-1:openai:*'),
    ],
    ['session:s1:state', exact('session:s1:state', 'fence:session:s1', 'fence:session:s1:state')],
    ['cost:openai:gpt%2A', exact('cost:openai:gpt%2A', 'fence:cost:openai', 'fence:cost:openai:gpt%2A')],
    ['solo', exact('solo', 'fence:solo')],
    ['quota:*:openai:*', { keys: [], newEpoch: false, sweep: 'quota:*:openai:*' }],
    ['quota:org-?:*', { keys: [], newEpoch: false, sweep: 'quota:org-?:*' }],
    ['quota*', { keys: [], newEpoch: false, sweep: 'quota*' }],
    [':*', { keys: [], newEpoch: false, sweep: ':*' }],
    ['a[1]', { keys: ['a[1]', 'fence:a[1]'], newEpoch: false, sweep: 'a[1]' }],
  ])('%s', (target, deletions) => {
    expect(deletionsFor(target)).toEqual(deletions);
  });

  /** The fences of a key's segments, also of segments that no key may have. */
  const fencesAtDepth = (segments: string[], depth: number): string[] => {
    const entity = Math.min(depth, segments.length);
    const prefix = (length: number) => segments.slice(0, length).join(':');
    const groups = Array.from(
      { length: Math.max(0, entity - 2) },
      (_, index) => `fence:${prefix(index + 2)}:*`,
    );
    return [...new Set([`fence:${prefix(1)}`, ...groups, `fence:${prefix(entity)}`])];
  };

  it('names few fences for a target of thousands of segments, its type among them', () => {
    for (const target of [`a${':'.repeat(8_000)}`, `a${':b'.repeat(4_000)}`, `a${':b'.repeat(4_000)}:*`]) {
      const { keys, sweep } = deletionsFor(target);
      expect(keys).toContain('fence:a');
      expect(keys.length).toBeLessThanOrEqual(2);
      expect(sweep).toBe(null);
    }
  });

  const segments = fc.array(fc.constantFrom('a', 'b', 'c', ''), { minLength: 1, maxLength: 40, size: 'max' });
  const depth = fc.integer({ min: 2, max: 6 });

  it('always deletes a fence of every group that holds a key it names', () => {
    fc.assert(
      fc.property(segments, fc.integer({ min: 2, max: 40 }), fc.nat(40), (parts, length, cut) => {
        if (parts.length <= length || parts[0] === '') return;
        // What dependsOn adds for the group, see dependencies.ts.
        const fences = fencesOf(parts.slice(0, length).join(':'));
        const targets = [parts.join(':'), `${parts.slice(0, (cut % (parts.length - 1)) + 1).join(':')}:*`];
        for (const target of targets) {
          expect(deletionsFor(target).keys.some((key) => fences.includes(key))).toBe(true);
        }
      }),
    );
  });

  it('always deletes a fence of every key it names, whatever the depth of the reader', () => {
    fc.assert(
      fc.property(segments, depth, fc.nat(6), (parts, entityDepth, cut) => {
        const fences = fencesAtDepth(parts, entityDepth);
        if (parts.join(':') !== '') {
          expect(deletionsFor(parts.join(':')).keys.some((key) => fences.includes(key))).toBe(true);
        }
        const group = parts.slice(0, Math.min(cut, parts.length - 1));
        if (group.join(':') === '') return;
        expect(deletionsFor(`${group.join(':')}:*`).keys.some((key) => fences.includes(key))).toBe(true);
      }),
    );
  });

  it('leaves the siblings of an exact target alone, and other groups of a group', () => {
    const untouched = (target: string, key: string, entityDepth?: number) =>
      deletionsFor(target).keys.every((deleted) => !fencesOf(key, entityDepth).includes(deleted));
    expect(untouched('cost:openai:gpt-5', 'cost:openai:gpt-4', 3)).toBe(true);
    expect(untouched('member:o:u1', 'member:o:u2', 3)).toBe(true);
    expect(untouched('cost:openai:*', 'cost:mistral:large', 3)).toBe(true);
    expect(untouched('quota:org-1:*', 'quota:org-2:openai:gpt')).toBe(true);
    expect(untouched('quota:org-1:*', 'quota:org-1:openai:gpt')).toBe(false);
    expect(untouched('otp:login:alice', 'otp:login:bob')).toBe(true);
    expect(untouched('otp:login:*', 'otp:login:bob')).toBe(false);
  });
});
