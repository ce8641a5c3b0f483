/** How well each key type was served in the last day. */

import {
  OTHER_TYPE,
  sumStatistics,
} from '../../../../supabase/functions/_shared/cache/protocol/statistics.ts';
import type { RecordedHour } from './recorded-day.ts';

export interface HitRate {
  readonly type: string;
  readonly reads: number;
  /** From 0 to 1; null without reads. */
  readonly hitRate: number | null;
  /** The type's target hit rate; null where it has none. */
  readonly target: number | null;
}

/** One for each type that readers wrote down, in the order in which they name them. */
export function hitRates(day: readonly RecordedHour[]): HitRate[] {
  const sums = sumStatistics(day.flatMap(({ fields }) => fields));
  // Keys of no type have no target.
  sums.delete(OTHER_TYPE);
  return [...sums].map(([type, { hits, misses, target }]) => {
    const reads = hits + misses;
    return { type, reads, hitRate: reads === 0 ? null : hits / reads, target };
  });
}

/** Whether a type's hit rate reaches its target; true where there is nothing to compare. */
export function meetsTarget({ hitRate, target }: Pick<HitRate, 'hitRate' | 'target'>): boolean {
  return hitRate === null || target === null || hitRate >= target;
}
