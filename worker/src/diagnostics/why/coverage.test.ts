import { describe, expect, it } from 'vitest';
import { fencesOf } from '../../../../supabase/functions/_shared/cache/protocol/fences.ts';
import { covers, targetFor } from './coverage.ts';

describe('covers', () => {
  it.each([
    ['quota:acme:*', 'quota:acme:openai:gpt-5', true],
    ['quota:acme:*', 'quota:other:openai:gpt-5', false],
    ['quota:*', 'quota:acme:openai:gpt-5', true],
    ['*', 'quota:acme:openai:gpt-5', true],
    ['session:42:state', 'session:42:state', true],
    ['session:4:state', 'session:42:state', false],
    // Its entity is the session, whatever comes after.
    ['session:42:other', 'session:42:state', true],
    // The entity of a price is the whole key, so that one leaves the provider's others alone …
    ['cost:openai:gpt-5', 'cost:openai:gpt-4', false],
    ['cost:openai:*', 'cost:openai:gpt-4', true],
    // … and a sweep reaches what its pattern matches.
    ['*:gpt-4', 'cost:openai:gpt-4', true],
    ['*:gpt-5', 'cost:openai:gpt-4', false],
  ])('%s and %s: %s', (target, key, expected) => {
    const entity = key.startsWith('cost:') ? 3 : 2;
    expect(covers(target, key, fencesOf(key, entity))).toBe(expected);
  });
});

describe('targetFor', () => {
  it.each([
    ['quota:{org_id}:*', 'quota:acme:openai:gpt-5', 'quota:acme:*'],
    ['session:{id}:state', 'session:42:state', 'session:42:state'],
    ['user:{o.user_id}:orders', 'user:7:orders', 'user:7:orders'],
    ['x:{"a:b"}:{o."c""d"}', 'x:1:2', 'x:1:2'],
    ['cost:{provider}:{model}', 'cost:openai', 'cost:openai:-'],
    ['flags:all', 'quota:acme', 'flags:all'],
  ])('of %s for %s is %s', (template, key, expected) => {
    expect(targetFor(template, key)).toBe(expected);
  });
});
