/**
 * What the queue carries, and why none of it is instant: a commit's DEL never passes through here.
 */

import type { SweepState } from '../../../supabase/functions/_shared/cache/protocol/sweep.ts';

/** Sweep every key that a pattern names which no fence covers, page by page. */
export interface SweepJob {
  readonly pattern: string;
  /** The repetition for loaders on replicas, which asks for no other. */
  readonly second?: boolean;
  /** After the last page that was saved; absent before. */
  readonly state?: SweepState;
}

/** A target that Redis refused for its own sake; tried again with ever longer pauses. */
export interface RetryJob {
  readonly target: string;
  /** The code of the refusal; never its text. */
  readonly code: string;
}

/** Targets among which are some that Redis refuses; which ones is found out little by little. */
export interface IsolateJob {
  readonly targets: readonly string[];
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
  isolate: IsolateJob;
  'second-delete': SecondDeleteJob;
  audit: AuditJob;
  prune: PruneJob;
}

export type JobName = keyof Jobs;

/** What the queue is asked to do. Lists of targets may be of any length: the queue makes jobs of a sane size of them. */
export type Errand =
  | { readonly kind: 'sweep'; readonly pattern: string }
  /** The same sweep once more, when the replicas have replayed what was committed before. */
  | { readonly kind: 'second-sweep'; readonly pattern: string; readonly delayMs: number }
  | { readonly kind: 'retry'; readonly target: string; readonly code: string }
  | { readonly kind: 'isolate'; readonly targets: readonly string[] }
  | { readonly kind: 'second-delete'; readonly targets: readonly string[]; readonly delayMs: number };

export const QUEUE_NAME = 'fencepost';

/** Attempts of a target that Redis refuses: 1 s, 2 s, 4 s … about four minutes in all, then it is a dead letter. */
export const RETRY_ATTEMPTS = 8;
export const RETRY_FIRST_MS = 1_000;

export const DEAD_LETTER_MAX_AGE_MS = 30 * 86_400_000;

/** Between two looks at targets that are not decided yet: the allowance for isolating grows meanwhile. */
export const ISOLATE_PAUSE_MS = 2_000;
