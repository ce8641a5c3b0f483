import { describe, expect, it } from 'vitest';
import { sourceOf, valuesOf } from './sources.ts';

describe('sourceOf', () => {
  const sources = ['quota:{org}:{provider}', 'session:{id}:state', 'flags'].map((target) => ({
    target,
    source: '',
  }));

  it.each([
    ['quota:acme:openai', 'quota:{org}:{provider}'],
    ['quota:acme:*', 'quota:{org}:{provider}'],
    ['session:42:state', 'session:{id}:state'],
    ['flags', 'flags'],
    ['session:42:other', undefined],
    ['quota:acme', undefined],
    ['quota:acme:openai:gpt', undefined],
    ['quotas:acme:openai', undefined],
  ])('%s: %s', (key, target) => {
    expect(sourceOf(sources, key)?.target).toBe(target);
  });
});

describe('valuesOf', () => {
  it.each([
    ['quota:{org}:{provider}', 'quota:a%3Ab:x%2Ay', ['a:b', 'x*y']],
    ['session:{id}:state', 'session:42:state', ['42']],
    ['flags', 'flags', []],
    // No percent-encoding, and the hash of a long value.
    ['user:{id}', 'user:100%', null],
    ['user:{id}', `user:~${'0'.repeat(64)}`, null],
  ])('of %s in %s', (target, key, values) => {
    expect(valuesOf(target, key)).toEqual(values);
  });
});
