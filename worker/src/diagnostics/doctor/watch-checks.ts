/**
 * Watches and their triggers. `cache_invalidation.problems()` finds what is wrong with them: a table or column that is gone,
 * triggers that are missing or disabled, children and partitions that are not covered.
 */
import type pg from 'pg';
import { captureProblems } from '../self-checks/capture.ts';
import { type Finding, fail, ok, warn } from './finding.ts';

export async function checkWatches(pool: pg.Pool): Promise<Finding[]> {
  const findings = (await captureProblems(pool)).map(({ watch, severity, problem, remedy }) =>
    (severity === 'notice' ? warn : fail)(watch === null ? 'watches' : `watch ${watch}`, problem, remedy),
  );
  const { rows: counted } = await pool.query<{ count: number }>(
    'select count(*)::int as count from cache_invalidation.watches',
  );
  const count = counted[0]?.count ?? 0;
  if (count === 0) {
    findings.push(
      fail(
        'watches',
        'no table is watched',
        "select cache_invalidation.watch('public.orders', 'orders:{customer_id}:*');",
      ),
    );
  }
  return findings.length > 0 ? findings : [ok('watches', `${count} watches, all their triggers in place`)];
}
