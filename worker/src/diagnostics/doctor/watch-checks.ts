/**
 * Watches and their triggers. What can be wrong with them is the SQL's knowledge (`cache_invalidation.problems()`): a table
 * or column that is gone, triggers that are missing or disabled, children and partitions that are not covered.
 */
import type pg from 'pg';
import { type Finding, fail, ok, warn } from './finding.ts';

/** Without event triggers (where the project's role may not make them), nothing is broken yet. */
const ADVICE = /there are no event triggers|is unlogged/;

export async function checkWatches(pool: pg.Pool): Promise<Finding[]> {
  const { rows: counted } = await pool.query<{ count: number }>(
    'select count(*)::int as count from cache_invalidation.watches',
  );
  const count = counted[0]?.count ?? 0;
  if (count === 0) {
    return [
      fail(
        'watches',
        'no table is watched',
        "select cache_invalidation.watch('public.orders', 'orders:{customer_id}:*');",
      ),
    ];
  }
  const { rows } = await pool.query<{ watch_id: number | null; problem: string; remedy: string }>(
    'select watch_id, problem, remedy from cache_invalidation.problems()',
  );
  const findings = rows.map(({ watch_id, problem, remedy }) =>
    (ADVICE.test(problem) ? warn : fail)(
      watch_id === null ? 'watches' : `watch ${watch_id}`,
      problem,
      remedy,
    ),
  );
  return findings.length > 0 ? findings : [ok('watches', `${count} watches, all their triggers in place`)];
}
