import { expect, it } from 'vitest';
import { nextSteps } from './next-steps.ts';

const situation = { later: [], imports: { '@upstash/redis': 'npm:@upstash/redis@1.0.0' }, into: '_shared' };

it('says where our own commands run, since npx finds none of that name in the project', () => {
  const text = nextSteps(situation);
  const place = text.indexOf('not here but in the Fencepost repository');
  expect(place).toBeGreaterThan(text.indexOf('  4. '));
  expect(text.indexOf('npx fencepost')).toBeGreaterThan(place);
});

it('says --include-all where a migration of the project is later', () => {
  expect(nextSteps(situation)).not.toContain('--include-all');
  const text = nextSteps({ ...situation, later: ['2_a.sql', '3_b.sql'] });
  expect(text).toContain('npx supabase db push --remote --include-all\n');
  expect(text).toContain('because 2_a.sql and 1 more of yours are later');
});
