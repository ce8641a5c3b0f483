/**
 * Settles a backlog that is too large with a new epoch: one command invalidates the whole cache, and the rows seen before it
 * are discarded. That takes seconds where applying each row would take minutes.
 *
 *     1. take a snapshot of what is committed
 *     2. start a new epoch, in Postgres, then confirmed by Redis
 *     3. discard exactly the rows that the snapshot shows
 *
 * Nothing is lost: an entry that is a hit after step 2 was loaded after step 1. A crash in between leaves the rows in place.
 * With read replicas a loader may lag behind the snapshot, so a row for `*` is written before step 3. It starts one more
 * epoch, and the queue another one after the lag. Proof: docs/protocol.md#backlog.
 */
import type { Outbox } from '../db/outbox.ts';

const DISCARD_ROWS = 50_000;

export interface BacklogParts {
  readonly outbox: Pick<Outbox, 'backlog' | 'snapshot' | 'discard' | 'invalidate'>;
  /** More rows than this, or an older row than this, are too large a backlog. */
  readonly maxRows: number;
  readonly maxAgeMs: number;
  /** Milliseconds by which read replicas lag; 0: there are none. */
  readonly replicaLagMs: number;
  startEpoch(reason: string): Promise<void>;
}

/**
 * Checks the backlog and settles it if it is too large.
 *
 * @returns how many rows were discarded
 * @throws WorkerError or a database error when a step fails; calling it again is right
 */
export async function settleBacklog(parts: BacklogParts): Promise<number> {
  const { rows, oldestMs } = await parts.outbox.backlog(parts.maxRows + 1);
  if (rows <= parts.maxRows && oldestMs <= parts.maxAgeMs) return 0;
  const snapshot = await parts.outbox.snapshot();
  await parts.startEpoch(
    rows > parts.maxRows
      ? `the backlog exceeded ${parts.maxRows} rows`
      : `the backlog's oldest row was ${Math.round(oldestMs / 1000)} s old`,
  );
  if (parts.replicaLagMs > 0) await parts.outbox.invalidate('*');
  let discarded = 0;
  for (;;) {
    const batch = await parts.outbox.discard(snapshot, DISCARD_ROWS);
    discarded += batch;
    if (batch < DISCARD_ROWS) return discarded;
  }
}
