/** What the isolates, and the worker, wrote down in the last 24 hours (_shared/cache/protocol/statistics.ts): one hash an hour. */
import { statisticsKey } from '../../../../supabase/functions/_shared/cache/protocol/statistics.ts';
import { WorkerError } from '../../lib/errors.ts';
import type { CacheServer } from '../../redis/upstash.ts';

export interface RecordedHour {
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  /** Of every isolate, and of the worker, as they wrote it. */
  readonly fields: readonly string[];
}

const HOURS = 24;
const HOUR_MS = 3_600_000;
/** An isolate writes an hour's last counts within minutes after it, so the hour before this one may still change. */
const OPEN_HOURS = 2;

/** The first read takes 24 commands, every further one two: hours that are over are remembered. */
export class RecordedDay {
  readonly #cache: Pick<CacheServer, 'hashValues'>;
  /** By key of the hash. */
  #closedHours = new Map<string, readonly string[]>();

  constructor(cache: Pick<CacheServer, 'hashValues'>) {
    this.#cache = cache;
  }

  /**
   * This hour first; an hour in which nobody wrote has no fields.
   *
   * @param now milliseconds since 1970
   * @throws WorkerError when Redis is away
   */
  async read(now: number = Date.now()): Promise<RecordedHour[]> {
    const closedHours = new Map<string, readonly string[]>();
    const hours: RecordedHour[] = [];
    for (let ago = 0; ago < HOURS; ago++) {
      const startedAt = (Math.floor(now / HOUR_MS) - ago) * HOUR_MS;
      const key = statisticsKey(startedAt);
      const fields = this.#closedHours.get(key) ?? (await this.#fields(key));
      if (ago >= OPEN_HOURS) closedHours.set(key, fields);
      hours.push({ startedAt, fields });
    }
    this.#closedHours = closedHours;
    return hours;
  }

  /** None where the key holds something else than a hash. */
  async #fields(key: string): Promise<readonly string[]> {
    try {
      return await this.#cache.hashValues(key);
    } catch (error) {
      if (error instanceof WorkerError && error.code === 'UPSTASH_REFUSED') return [];
      throw error;
    }
  }
}
