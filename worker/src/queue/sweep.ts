/**
 * A sweep as a job: page by page (supabase/functions/_shared/cache/protocol/sweep.ts says why it is complete), keeping where it
 * is, so that another attempt, or another worker, goes on from there.
 */
import {
  SWEEP_START,
  type SweepState,
  sweepPage,
} from '../../../supabase/functions/_shared/cache/protocol/sweep.ts';
import type { CacheServer } from '../redis/upstash.ts';
import type { SweepJob } from './jobs.ts';
import type { Progress } from './work-queue.ts';

/** Pages between two saves: a page is about a thousand keys looked at, and a save is two writes. */
const PAGES_A_SAVE = 25;

export interface SweepParts {
  readonly cache: Pick<CacheServer, 'scan' | 'del'>;
  readonly prefix: string;
}

/** @returns the number of entries deleted */
export async function sweep(parts: SweepParts, job: SweepJob, progress: Progress<'sweep'>): Promise<number> {
  const connection = {
    scan: async (cursor: string, glob: string, count: number) => {
      const page = await parts.cache.scan(cursor, escapePrefix(parts.prefix) + glob, count);
      return { cursor: page.cursor, keys: page.keys.map((key) => key.slice(parts.prefix.length)) };
    },
    delete: (keys: readonly string[]) => parts.cache.del(keys.map((key) => parts.prefix + key)),
  };
  let state: SweepState = job.state ?? SWEEP_START;
  for (let pages = 1; state.phase !== 'done'; pages++) {
    state = await sweepPage(connection, job.pattern, state);
    if (pages % PAGES_A_SAVE === 0) await progress.save({ pattern: job.pattern, state }, state);
  }
  return state.deleted;
}

function escapePrefix(prefix: string): string {
  return prefix.replace(/[\\*?[\]^]/g, '\\$&');
}
