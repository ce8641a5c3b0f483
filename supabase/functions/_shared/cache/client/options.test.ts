import { expect, it } from 'vitest';
import { planFor } from './options.ts';

it('keeps only the fences of known types for ever', () => {
  expect(planFor('cost:a:b').mortal).toEqual(['fence:cost:a:*', 'fence:cost:a:b']);
  // Not of that type, but under its fence.
  expect(planFor('cost:a').mortal).toEqual(['fence:cost:a']);
  expect(planFor('4f1c:profile').mortal).toEqual(['fence:4f1c', 'fence:4f1c:profile']);
  expect(planFor('solo').mortal).toEqual(['fence:solo']);
});
