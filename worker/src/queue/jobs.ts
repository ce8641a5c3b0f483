/**
 * The kinds of jobs, and how a request becomes jobs. None of them is instant: the DEL for a commit never passes through
 * the queue.
 *
 * Sweeps and retries carry a deduplication id; work-queue.ts says why that is safe. Second runs carry none: an equal job
 * that already waits would run too early for what was committed after it was added.
 */
import type { JobsOptions } from 'bullmq';
import type { SweepState } from '../../../supabase/functions/_shared/cache/protocol/sweep.ts';
import { groupsOf } from '../../../supabase/functions/_shared/cache/redis/requests.ts';

/** Deletes every key that matches a pattern which no fence covers. */
export interface SweepJob {
  readonly pattern: string;
  /** This is the repetition for loaders on replicas. It asks for no other. */
  readonly second?: boolean;
  /** Where the next attempt continues; absent until it is first saved. */
  readonly state?: SweepState;
}

/** Applies a target that Redis refused, with growing pauses between attempts. */
export interface RetryJob {
  readonly target: string;
  /** The code of the refusal, never Redis's own text. */
  readonly code: string;
}

/** Finds the refused targets among these by halving, at the rate that the token bucket allows. */
export interface BisectJob {
  readonly targets: readonly string[];
}

/** Deletes again after the replica lag: a loader on a replica may have cached the old row after the first DEL. */
export interface SecondDeleteJob {
  readonly targets: readonly string[];
}

/** Compares a sample of the cache with the database. */
export interface AuditJob {
  readonly sample: number;
}

/** Removes dead letters older than a month. */
export type PruneJob = Record<string, never>;

export interface Jobs {
  sweep: SweepJob;
  retry: RetryJob;
  bisect: BisectJob;
  'second-delete': SecondDeleteJob;
  audit: AuditJob;
  prune: PruneJob;
}

export type JobName = keyof Jobs;

/** What the queue is asked to do. A list of targets may have any length: it is cut into jobs of bounded size. */
export type JobRequest =
  | { readonly kind: 'sweep'; readonly pattern: string }
  /** Repeats a sweep after the replicas have replayed what was committed before it. */
  | { readonly kind: 'second-sweep'; readonly pattern: string; readonly delayMs: number }
  | { readonly kind: 'retry'; readonly target: string; readonly code: string }
  | { readonly kind: 'bisect'; readonly targets: readonly string[] }
  | { readonly kind: 'second-delete'; readonly targets: readonly string[]; readonly delayMs: number };

export interface NewJob {
  readonly name: JobName;
  readonly data: Jobs[JobName];
  readonly opts: JobsOptions;
}

export const QUEUE_NAME = 'fencepost';

/** Pauses of 1 s, 2 s, 4 s … between 8 attempts: about two minutes in all, then the job is a dead letter. */
export const RETRY_ATTEMPTS = 8;
export const RETRY_FIRST_MS = 1_000;

export const DEAD_LETTER_MAX_AGE_MS = 30 * 86_400_000;

/** The pause between two attempts to bisect; the token bucket refills meanwhile. */
export const BISECT_PAUSE_MS = 2_000;

/** Limits of one job, so that it is read, written and deleted in one request. */
const JOB_TARGETS_MOST = 2_000;
const JOB_CHARACTERS_MOST = 400_000;

/** @returns at least one job for each request, in order; of equal sweeps and of equal retries only the first */
export function jobsOf(requests: readonly JobRequest[]): NewJob[] {
  const seen = new Set<string>();
  return requests.flatMap((request) => jobsOfOne(request, seen));
}

function jobsOfOne(request: JobRequest, seen: Set<string>): NewJob[] {
  const once = (id: string, job: Omit<NewJob, 'opts'>, delay: number): NewJob[] => {
    if (seen.has(id)) return [];
    seen.add(id);
    return [{ ...job, opts: { delay, deduplication: { id } } }];
  };
  const split = (name: 'bisect' | 'second-delete', targets: readonly string[], delay: number): NewJob[] =>
    [...groupsOf(targets, ({ length }) => length, JOB_CHARACTERS_MOST, JOB_TARGETS_MOST)].map((group) => ({
      name,
      data: { targets: group },
      opts: { delay },
    }));
  switch (request.kind) {
    case 'sweep': {
      const { pattern } = request;
      return once(`sweep:${pattern}`, { name: 'sweep', data: { pattern } }, 0);
    }
    case 'second-sweep': {
      const { pattern, delayMs } = request;
      return [{ name: 'sweep', data: { pattern, second: true }, opts: { delay: delayMs } }];
    }
    case 'retry': {
      const { target, code } = request;
      return once(`retry:${target}`, { name: 'retry', data: { target, code } }, RETRY_FIRST_MS);
    }
    case 'bisect':
      return split('bisect', request.targets, BISECT_PAUSE_MS);
    case 'second-delete':
      return split('second-delete', request.targets, request.delayMs);
  }
}
