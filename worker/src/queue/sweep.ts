/**
 * A sweep as a job. It works batch by batch and stores its position, so that another attempt or another worker continues
 * from there. Why a sweep is complete: docs/protocol.md#sweeps
 */
import {
  SWEEP_START,
  type SweepConnection,
  type SweepState,
  sweepPage,
} from '../../../supabase/functions/_shared/cache/protocol/sweep.ts';
import type { CacheServer } from '../redis/upstash.ts';
import type { SweepJob } from './jobs.ts';
import type { Progress } from './work-queue.ts';

/** Batches between two saves. A batch reads about a thousand keys; a save is two writes. */
const BATCHES_A_SAVE = 25;

/** @returns the number of entries deleted */
export async function sweep(
  cache: Pick<CacheServer, 'scan' | 'del'>,
  job: SweepJob,
  progress: Progress<'sweep'>,
): Promise<number> {
  const connection: SweepConnection = {
    scan: (cursor, glob, count) => cache.scan(cursor, glob, count),
    delete: (keys) => cache.del(keys),
  };
  let state: SweepState = job.state ?? SWEEP_START;
  for (let batches = 1; state.phase !== 'done'; batches++) {
    state = await sweepPage(connection, job.pattern, state);
    if (batches % BATCHES_A_SAVE === 0) await progress.save({ pattern: job.pattern, state }, state);
  }
  return state.deleted;
}
