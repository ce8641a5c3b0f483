/**
 * A sweep works batch by batch and stores its position, so that another attempt or another worker continues from there.
 * Why a sweep is complete: docs/protocol.md#sweeps
 */
import {
  SWEEP_START,
  type SweepConnection,
  type SweepState,
  sweepPage,
} from '../../../supabase/functions/_shared/cache/protocol/sweep.ts';
import type { CacheServer } from '../redis/upstash.ts';

/** Batches between two saves. A batch reads about a thousand keys; a save is one write. */
const BATCHES_A_SAVE = 25;

/** @param from where to continue; null: from the beginning */
export async function sweep(
  cache: Pick<CacheServer, 'scan' | 'del'>,
  pattern: string,
  from: SweepState | null,
  save: (state: SweepState) => Promise<void>,
): Promise<void> {
  const connection: SweepConnection = {
    scan: (cursor, glob, count) => cache.scan(cursor, glob, count),
    delete: (keys) => cache.del(keys),
  };
  let state: SweepState = from ?? SWEEP_START;
  for (let batches = 1; state.phase !== 'done'; batches++) {
    state = await sweepPage(connection, pattern, state);
    if (batches % BATCHES_A_SAVE === 0) await save(state);
  }
}
