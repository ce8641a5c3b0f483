/**
 * Too large a backlog is settled by a new epoch: the whole cache invalidated in one command, and the rows seen before
 * it discarded. It takes seconds where applying each row would take minutes, and nothing is lost:
 *
 *     1. S := what is committed now
 *     2. a new epoch, in Postgres and then confirmed by Redis
 *     3. discard exactly the rows visible in S
 *
 * An entry that is a hit after 2 was loaded after 2, hence after S, and has seen all that S shows. A crash in between
 * leaves the rows where they are.
 *
 * A loader on a replica that lags may load after 2 what the replica has not replayed of S. So with a replica lag a row
 * for `*` is written before 3: it starts one more epoch, and the queue another one after the lag.
 */
import type { Outbox } from '../db/outbox.ts';

const DISCARD_ROWS = 50_000;

export interface BacklogParts {
  readonly outbox: Pick<Outbox, 'backlog' | 'snapshot' | 'discard' | 'invalidate'>;
  /** More rows than this, or an older one than this many milliseconds, are too large a backlog. */
  readonly rowsMost: number;
  readonly ageMostMs: number;
  /** Milliseconds by which loaders on replicas lag; 0: none does. */
  readonly replicaLagMs: number;
  startEpoch(reason: string): Promise<void>;
}

/**
 * Looks, and settles if it must.
 *
 * @returns how many rows were discarded
 * @throws WorkerError or a database error when a step fails; looking again later is right
 */
export async function settleBacklog(parts: BacklogParts): Promise<number> {
  const { rows, oldestMs } = await parts.outbox.backlog(parts.rowsMost + 1);
  if (rows <= parts.rowsMost && oldestMs <= parts.ageMostMs) return 0;
  const snapshot = await parts.outbox.snapshot();
  await parts.startEpoch(
    rows > parts.rowsMost
      ? `the backlog exceeded ${parts.rowsMost} rows`
      : `the backlog's oldest row was ${Math.round(oldestMs / 1000)} s old`,
  );
  if (parts.replicaLagMs > 0) await parts.outbox.invalidate('*');
  let gone = 0;
  for (;;) {
    const page = await parts.outbox.discard(snapshot, DISCARD_ROWS);
    gone += page;
    if (page < DISCARD_ROWS) return gone;
  }
}
