/**
 * What each kind of job does. All are idempotent: a job that was interrupted anywhere may run again.
 */
import { type ApplyParts, apply } from '../apply/apply.ts';
import type { CacheServer } from '../apply/upstash.ts';
import { WorkerError } from '../errors.ts';
import type { AuditJob } from './jobs.ts';
import { sweep } from './sweep.ts';
import type { Processors } from './work-queue.ts';

export interface ProcessorParts extends ApplyParts {
  readonly cache: CacheServer;
  audit(job: AuditJob): Promise<unknown>;
  prune(): Promise<number>;
  /** A pattern that turned up where an exact target was expected. */
  addSweep(pattern: string): Promise<void>;
}

export function createProcessors(parts: ProcessorParts): Processors {
  return {
    sweep: (job, progress) => sweep({ cache: parts.cache, prefix: parts.prefix }, job, progress),

    retry: async ({ target }) => {
      const { refused, sweeps } = await apply(parts, [target]);
      const failure = refused.get(target);
      // The reason is the classified one; Redis's own text never gets here.
      if (failure !== undefined) throw new WorkerError(failure.code, failure.message);
      for (const pattern of sweeps) await parts.addSweep(pattern);
    },

    'second-delete': async ({ targets }) => {
      const { refused, sweeps } = await apply(parts, targets);
      for (const pattern of sweeps) await parts.addSweep(pattern);
      const failure = [...refused.values()][0];
      if (failure !== undefined) throw new WorkerError(failure.code, failure.message);
    },

    audit: (job) => parts.audit(job),
    prune: () => parts.prune(),
  };
}
