/** What delivery leaves to the queue (queue/buffer.ts): rows of a batch, and the jobs that they still need. */

import type { BatchRows } from '../db/outbox-batch.ts';
import type { QueueRequest } from '../queue/buffer.ts';
import type { JobRequest } from '../queue/jobs.ts';
import type { Applied } from '../redis/apply.ts';

/** Rows of one batch that need the same jobs. */
export function queueRequest(rows: BatchRows, throttled: boolean, jobs: readonly JobRequest[]): QueueRequest {
  return { xids: rows.xids, ids: rows.ids, rows: rows.length, throttled, jobs };
}

/** The second deletion of the targets that Redis has confirmed. */
export function secondDelete(
  targets: readonly string[],
  unconfirmed: ReadonlySet<string>,
  delayMs: number,
): JobRequest {
  const confirmed = unconfirmed.size === 0 ? targets : targets.filter((target) => !unconfirmed.has(target));
  return { kind: 'second-delete', targets: confirmed, delayMs };
}

/** The jobs for the targets that Redis has not confirmed. */
export function jobsFor({ refused, undecided, sweeps }: Applied): JobRequest[] {
  const jobs: JobRequest[] = sweeps.map((pattern) => ({ kind: 'sweep', pattern }));
  for (const [target, { code }] of refused) jobs.push({ kind: 'retry', target, code });
  if (undecided.length > 0) jobs.push({ kind: 'bisect', targets: undecided });
  return jobs;
}
