/**
 * The kinds of jobs. None of them is instant: the DEL for a commit never passes through the queue. None carries a target: what
 * is pending stands in the database (pending-work.ts), and a job only starts to look.
 */
import type { JobsOptions } from 'bullmq';

/** Works on what is pending and due. */
export type PendingJob = Record<string, never>;

/** Compares a sample of the cache with the database. */
export interface AuditJob {
  readonly sample: number;
}

/** Removes failed jobs older than a month. */
export type PruneJob = Record<string, never>;

export interface Jobs {
  pending: PendingJob;
  audit: AuditJob;
  prune: PruneJob;
}

export type JobName = keyof Jobs;

export interface NewJob {
  readonly name: JobName;
  readonly data: Jobs[JobName];
  readonly opts: JobsOptions;
}

export const QUEUE_NAME = 'fencepost';

/** Pauses of 1 s, 2 s, 4 s … between 8 attempts: about two minutes in all. */
export const RETRY_ATTEMPTS = 8;
export const RETRY_FIRST_MS = 1_000;

export const DEAD_LETTER_MAX_AGE_MS = 30 * 86_400_000;

/** What is due is looked for this often, whatever has become of the jobs that were asked for. */
export const FALLBACK_LOOK_MS = 30_000;

/**
 * A look at what is pending. One that should begin at once carries a deduplication id, so that many requests are one job;
 * work-queue.ts says why that is safe. A later one carries none: an equal job that waits may run too early for it.
 */
export function lookAfter(delayMs: number): NewJob {
  // BullMQ's tables take whole milliseconds alone.
  const delay = Math.ceil(delayMs);
  const once = delay === 0 ? { deduplication: { id: 'pending' } } : {};
  // A look that failed leaves nothing: its targets are in the database, and the next look finds them.
  return { name: 'pending', data: {}, opts: { delay, removeOnFail: true, ...once } };
}
