/** What the drain hands to the queue (queue/hand-over.ts): rows of a page, and what is still to be done for them. */

import type { BatchRows } from '../db/outbox-batch.ts';
import type { Piece } from '../queue/buffer.ts';
import type { Errand } from '../queue/jobs.ts';
import type { Applied } from '../redis/apply.ts';

/** Rows of one page that need the same of the queue. */
export function piece(rows: BatchRows, rests: boolean, errands: readonly Errand[]): Piece {
  return { xids: rows.xids, ids: rows.ids, rows: rows.length, rests, errands };
}

/** Of the targets that Redis has confirmed. */
export function secondDelete(
  targets: readonly string[],
  unconfirmed: ReadonlySet<string>,
  delayMs: number,
): Errand {
  const confirmed = unconfirmed.size === 0 ? targets : targets.filter((target) => !unconfirmed.has(target));
  return { kind: 'second-delete', targets: confirmed, delayMs };
}

/** Of the targets that it has not. */
export function errandsOf({ refused, undecided, sweeps }: Applied): Errand[] {
  const errands: Errand[] = sweeps.map((pattern) => ({ kind: 'sweep', pattern }));
  for (const [target, { code }] of refused) errands.push({ kind: 'retry', target, code });
  if (undecided.length > 0) errands.push({ kind: 'isolate', targets: undecided });
  return errands;
}
