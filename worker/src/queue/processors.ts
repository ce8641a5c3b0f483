/**
 * What each kind of job does. All are idempotent: a job that was interrupted at any point may run again.
 *
 * With loaders on replicas only the second deletion counts (docs/protocol.md#fences, rule 9). A confirmed sweep or retry
 * therefore adds its second deletion, `replicaLag` later, before it counts as done.
 */

import { WorkerError } from '../lib/errors.ts';
import { type ApplyParts, apply, deleteProbe } from '../redis/apply.ts';
import { UpstashFailure } from '../redis/errors.ts';
import type { CacheServer } from '../redis/upstash.ts';
import { type AuditJob, BISECT_PAUSE_MS, type JobRequest } from './jobs.ts';
import { sweep } from './sweep.ts';
import { type Processors, Unfinished } from './work-queue.ts';

export interface ProcessorParts extends ApplyParts {
  readonly cache: CacheServer;
  /** Milliseconds by which the loaders' replicas lag; 0 without replicas. */
  readonly replicaLagMs: number;
  audit(job: AuditJob): Promise<unknown>;
  prune(): Promise<number>;
  /** The jobs are stored when it resolves. */
  add(requests: readonly JobRequest[]): Promise<void>;
}

export function createProcessors(parts: ProcessorParts): Processors {
  const { replicaLagMs: delayMs } = parts;
  const secondDelete = (targets: readonly string[]): JobRequest[] =>
    delayMs === 0 || targets.length === 0 ? [] : [{ kind: 'second-delete', targets, delayMs }];

  return {
    sweep: async (job, progress) => {
      const deleted = await sweep(parts.cache, job, progress).catch(async (error: unknown) => {
        // A refusal counts as an attempt only of a server that serves.
        if (error instanceof UpstashFailure && error.course === 'bisect') await deleteProbe(parts.cache);
        throw error;
      });
      if (delayMs > 0 && job.second !== true)
        await parts.add([{ kind: 'second-sweep', pattern: job.pattern, delayMs }]);
      return deleted;
    },

    retry: async ({ target }) => {
      // `apply` always decides a single target.
      const { refused, sweeps } = await apply(parts, [target]);
      const failure = refused.get(target);
      // This is the classified reason. Redis's own text may hold values and never gets here.
      if (failure !== undefined) throw new WorkerError(failure.code, failure.message);
      await parts.add([...sweeps.map(asSweep), ...secondDelete(sweeps.length === 0 ? [target] : [])]);
    },

    bisect: async ({ targets }, progress) => {
      const { refused, undecided, sweeps } = await apply(parts, targets);
      const others = new Set([...refused.keys(), ...undecided, ...sweeps]);
      await parts.add([
        ...[...refused].map(asRetry),
        ...sweeps.map(asSweep),
        ...secondDelete(targets.filter((target) => !others.has(target))),
      ]);
      if (undecided.length === 0) return;
      await progress.save({ targets: undecided }, { left: undecided.length });
      throw new Unfinished(BISECT_PAUSE_MS);
    },

    'second-delete': async ({ targets }) => {
      const { refused, undecided, sweeps } = await apply(parts, targets);
      await parts.add([
        ...[...refused].map(asRetry),
        ...sweeps.map(asSweep),
        ...(undecided.length === 0 ? [] : [{ kind: 'bisect', targets: undecided } as const]),
      ]);
    },

    audit: (job) => parts.audit(job),
    prune: () => parts.prune(),
  };
}

function asSweep(pattern: string): JobRequest {
  return { kind: 'sweep', pattern };
}

function asRetry([target, failure]: [string, { readonly code: string }]): JobRequest {
  return { kind: 'retry', target, code: failure.code };
}
