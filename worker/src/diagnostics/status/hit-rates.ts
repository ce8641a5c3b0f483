/** How well each key type was served in the last day. */

import { catalogueTypes } from '../../../../supabase/functions/_shared/cache/protocol/key-types.ts';
import { sumStatistics } from '../../../../supabase/functions/_shared/cache/protocol/statistics.ts';
import type { RecordedHour } from './recorded-day.ts';

export interface HitRate {
  readonly type: string;
  readonly reads: number;
  /** From 0 to 1; null without reads. */
  readonly hitRate: number | null;
  /** The design's aim for this type; null where it names none. */
  readonly target: number | null;
}

/** One for each type of the catalogue, in its order. */
export function hitRates(day: readonly RecordedHour[]): HitRate[] {
  const sums = sumStatistics(day.flatMap(({ fields }) => fields));
  return catalogueTypes().map((type) => {
    const counts = sums.get(type.name);
    const reads = counts === undefined ? 0 : counts.hits + counts.misses;
    return {
      type: type.name,
      reads,
      hitRate: counts === undefined || reads === 0 ? null : counts.hits / reads,
      target: type.hitRate ?? null,
    };
  });
}

/** Whether a type is served as well as it should be; true where there is nothing to compare. */
export function meetsTarget({ hitRate, target }: Pick<HitRate, 'hitRate' | 'target'>): boolean {
  return hitRate === null || target === null || hitRate >= target;
}
