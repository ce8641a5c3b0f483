/**
 * Errands as BullMQ's jobs. Why a sweep and a retry have a deduplication id, and what makes that safe, stands in
 * work-queue.ts. Second runs have none: a twin that waits already would come too early for what was committed after it.
 */
import type { JobsOptions } from 'bullmq';
import { type Errand, ISOLATE_PAUSE_MS, type JobName, type Jobs, RETRY_FIRST_MS } from './jobs.ts';

export interface NewJob {
  readonly name: JobName;
  readonly data: Jobs[JobName];
  readonly opts: JobsOptions;
}

/** Targets in one job: few enough to be read, written and deleted in one go. */
const JOB_TARGETS_MOST = 2_000;
const JOB_CHARACTERS_MOST = 400_000;

/** @returns at least one job for each errand, in order; of equal sweeps and retries only the first */
export function jobsOf(errands: readonly Errand[]): NewJob[] {
  const seen = new Set<string>();
  return errands.flatMap((errand) => jobsOfOne(errand, seen));
}

function jobsOfOne(errand: Errand, seen: Set<string>): NewJob[] {
  const once = (id: string, job: Omit<NewJob, 'opts'>, delay: number): NewJob[] => {
    if (seen.has(id)) return [];
    seen.add(id);
    return [{ ...job, opts: { delay, deduplication: { id } } }];
  };
  switch (errand.kind) {
    case 'sweep': {
      const { pattern } = errand;
      return once(`sweep:${pattern}`, { name: 'sweep', data: { pattern } }, 0);
    }
    case 'second-sweep': {
      const { pattern, delayMs } = errand;
      return [{ name: 'sweep', data: { pattern, second: true }, opts: { delay: delayMs } }];
    }
    case 'retry': {
      const { target, code } = errand;
      return once(`retry:${target}`, { name: 'retry', data: { target, code } }, RETRY_FIRST_MS);
    }
    case 'isolate':
      return portions(errand.targets).map((targets) => ({
        name: 'isolate',
        data: { targets },
        opts: { delay: ISOLATE_PAUSE_MS },
      }));
    case 'second-delete':
      return portions(errand.targets).map((targets) => ({
        name: 'second-delete',
        data: { targets },
        opts: { delay: errand.delayMs },
      }));
  }
}

function portions(targets: readonly string[]): string[][] {
  const result: string[][] = [];
  let portion: string[] = [];
  let characters = 0;
  for (const target of targets) {
    if (
      portion.length > 0 &&
      (portion.length >= JOB_TARGETS_MOST || characters + target.length > JOB_CHARACTERS_MOST)
    ) {
      result.push(portion);
      portion = [];
      characters = 0;
    }
    portion.push(target);
    characters += target.length;
  }
  if (portion.length > 0) result.push(portion);
  return result;
}
