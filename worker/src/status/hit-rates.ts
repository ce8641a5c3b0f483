/** How well each key type was served in the last day: what the isolates wrote down (_shared/statistics.ts), summed up. */
import { catalogueTypes } from '../../../supabase/functions/_shared/catalogue.ts';
import { statisticsKey, sumStatistics } from '../../../supabase/functions/_shared/statistics.ts';
import type { CacheServer } from '../apply/upstash.ts';

export interface HitRate {
  readonly type: string;
  readonly reads: number;
  /** From 0 to 1; null without reads. */
  readonly hitRate: number | null;
  /** The design's aim for this type; null where it names none. */
  readonly target: number | null;
}

const HOURS = 24;
const HOUR_MS = 3_600_000;
/** An isolate writes an hour's last counts within minutes of its end: the hour before this one may still change. */
const OPEN_HOURS = 2;

/** Reads them again and again for two commands each time: 24 the first time, since hours that are over are remembered. */
export class HitRates {
  readonly #cache: Pick<CacheServer, 'hashValues'>;
  readonly #prefix: string;
  /** By key of the hash. */
  #closedHours = new Map<string, readonly string[]>();

  /** @param prefix of all keys of this installation */
  constructor(cache: Pick<CacheServer, 'hashValues'>, prefix: string) {
    this.#cache = cache;
    this.#prefix = prefix;
  }

  /**
   * @param now milliseconds since 1970
   * @throws WorkerError when Redis is away
   */
  async read(now: number = Date.now()): Promise<HitRate[]> {
    const closedHours = new Map<string, readonly string[]>();
    const counted: string[] = [];
    for (let hour = 0; hour < HOURS; hour++) {
      const key = this.#prefix + statisticsKey(now - hour * HOUR_MS);
      const fields = this.#closedHours.get(key) ?? (await this.#cache.hashValues(key));
      if (hour >= OPEN_HOURS) closedHours.set(key, fields);
      counted.push(...fields);
    }
    this.#closedHours = closedHours;
    const sums = sumStatistics(counted);
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
}

/** Whether a type is served as well as it should be; true where there is nothing to compare. */
export function meetsTarget({ hitRate, target }: Pick<HitRate, 'hitRate' | 'target'>): boolean {
  return hitRate === null || target === null || hitRate >= target;
}
