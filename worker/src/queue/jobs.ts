/**
 * What the queue carries, and why none of it is instant: a commit's DEL never passes through here.
 */

import type { SweepState } from '../../../supabase/functions/_shared/scope-sweep.ts';

/** Sweep every key that a pattern names which no fence covers, page by page. */
export interface SweepJob {
  readonly pattern: string;
  /** After the last page that was saved; absent before. */
  readonly state?: SweepState;
}

/** A target that Redis refused for its own sake; tried again with ever longer pauses. */
export interface RetryJob {
  readonly target: string;
  /** The code of the refusal; never its text. */
  readonly code: string;
}

/** Delete again what was deleted `replicaLag` ago: a loader on a replica may have cached the old row in between. */
export interface SecondDeleteJob {
  readonly targets: readonly string[];
}

/** Compare a sample of the cache with the database. */
export interface AuditJob {
  readonly sample: number;
}

/** Remove dead letters that nobody has asked for in a month. */
export type PruneJob = Record<string, never>;

export interface Jobs {
  sweep: SweepJob;
  retry: RetryJob;
  'second-delete': SecondDeleteJob;
  audit: AuditJob;
  prune: PruneJob;
}

export type JobName = keyof Jobs;

export const QUEUE_NAME = 'fencepost';

/** Attempts of a target that Redis refuses: 1 s, 2 s, 4 s … about four minutes in all, then it is a dead letter. */
export const RETRY_ATTEMPTS = 8;
export const RETRY_FIRST_MS = 1_000;

export const DEAD_LETTER_MAX_AGE_MS = 30 * 86_400_000;
