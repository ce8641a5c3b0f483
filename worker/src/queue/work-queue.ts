/**
 * The queue: adds jobs, works on them while this worker leads, and keeps what failed for good as dead letters.
 *
 * Adding is durable when it resolves; the drain acknowledges an outbox row only then.
 *
 * ## Duplicates
 *
 * A hot target that Redis refuses, or a pattern written a thousand times, must not become a thousand jobs. A job is
 * therefore added under a deduplication id, and suppressed while a twin exists. But a twin that has begun may already
 * have passed the key in question, and one that failed half-way goes on from where it was. So:
 *
 *     a job gives up its deduplication id as the first thing it does, before it looks at Redis.
 *
 * Then a suppressed invalidation always has a twin whose first look at Redis is still to come (it was added before the
 * twin gave up its id), and one that comes later becomes a job of its own. At most one job a target waits while
 * another runs. BullMQ's own modes do not say this: the plain one drops what arrives during a run, and `keepLastIfActive`
 * drops what arrives between two attempts.
 */
import {
  type ConnectionOptions,
  DelayedError,
  type IQueueBackend,
  type Job,
  type JobProgress,
  type JobsOptions,
  type Processor,
  Queue,
  Worker,
} from 'bullmq';
import { UpstashFailure } from '../apply/upstash-errors.ts';
import { asWorkerError, WorkerError } from '../errors.ts';
import { ExitCode } from '../exit-codes.ts';
import type { Backend } from './backend.ts';
import {
  DEAD_LETTER_MAX_AGE_MS,
  type JobName,
  type Jobs,
  QUEUE_NAME,
  RETRY_ATTEMPTS,
  RETRY_FIRST_MS,
} from './jobs.ts';

/** What each kind of job does. A rejection counts as an attempt, unless Redis is merely away. */
export type Processors = {
  readonly [Name in JobName]: (data: Jobs[Name], progress: Progress<Name>) => Promise<unknown>;
};

export interface Progress<Name extends JobName> {
  /** Keeps where the job is, so that another attempt goes on from there. */
  save(data: Jobs[Name], shown: object): Promise<void>;
}

export interface QueueCounts {
  readonly waiting: number;
  readonly active: number;
  readonly delayed: number;
  /** Dead letters. */
  readonly failed: number;
}

export interface DeadLetter {
  readonly id: string;
  readonly name: string;
  readonly subject: string;
  readonly reason: string;
  readonly failedAt: string;
}

/** While Redis is away a job waits this long and does not lose an attempt. */
const AWAY_MS = 5_000;

const OPTIONS = {
  // Finished jobs leave nothing; failed ones stay until they are retried or pruned.
  removeOnComplete: true,
  removeOnFail: false,
  attempts: RETRY_ATTEMPTS,
  backoff: { type: 'exponential', delay: RETRY_FIRST_MS, jitter: 0.25 },
} as const satisfies JobsOptions;

// The connection is the backend's affair; BullMQ's options want one all the same.
function createQueue(backend: Backend) {
  return new Queue<unknown, unknown, string, unknown, unknown, string, IQueueBackend, ConnectionOptions>(
    QUEUE_NAME,
    { connection: {}, defaultJobOptions: OPTIONS },
    backend.factory,
  );
}

function createWorker(backend: Backend, perform: Processor<unknown, unknown, string>) {
  return new Worker<unknown, unknown, string, IQueueBackend, JobProgress, ConnectionOptions>(
    QUEUE_NAME,
    perform,
    { connection: {}, concurrency: 4, maxStalledCount: RETRY_ATTEMPTS, name: 'worker' },
    backend.factory,
  );
}

export class WorkQueue {
  readonly #backend: Backend;
  readonly #queue: ReturnType<typeof createQueue>;
  readonly #onError: (error: Error) => void;
  #worker: ReturnType<typeof createWorker> | null = null;

  constructor(backend: Backend, onError: (error: Error) => void) {
    this.#backend = backend;
    this.#onError = onError;
    this.#queue = createQueue(backend);
    this.#queue.on('error', onError);
  }

  addSweep(pattern: string): Promise<void> {
    return this.#add('sweep', { pattern }, { deduplication: { id: `sweep:${pattern}` } });
  }

  addRetry(target: string, code: string): Promise<void> {
    return this.#add(
      'retry',
      { target, code },
      { delay: RETRY_FIRST_MS, deduplication: { id: `retry:${target}` } },
    );
  }

  /** @param delayMs from now on; by then the replicas have replayed what was committed before */
  addSecondDelete(targets: readonly string[], delayMs: number): Promise<void> {
    return this.#add('second-delete', { targets }, { delay: delayMs });
  }

  /** The schedules of what runs by the clock; they are kept by the queue, once for all workers. */
  async schedule(auditIntervalMs: number, sample: number): Promise<void> {
    await this.#guard(async () => {
      if (auditIntervalMs > 0) {
        await this.#queue.upsertJobScheduler(
          'audit',
          { every: auditIntervalMs },
          { name: 'audit', data: { sample }, opts: { attempts: 1 } },
        );
      } else {
        await this.#queue.removeJobScheduler('audit');
      }
      await this.#queue.upsertJobScheduler('prune', { every: 86_400_000 }, { name: 'prune', data: {} });
    });
  }

  /** Begins to work on jobs, once. @throws WorkerError QUEUE_UNAVAILABLE */
  work(processors: Processors): Promise<void> {
    return this.#guard(async () => {
      if (this.#worker !== null) return;
      await this.#queue.waitUntilReady();
      const worker = createWorker(this.#backend, (job, token) => this.#perform(processors, job, token));
      worker.on('error', this.#onError);
      this.#worker = worker;
      await worker.waitUntilReady();
    });
  }

  counts(): Promise<QueueCounts> {
    return this.#guard(async () => {
      const counts = await this.#queue.getJobCounts('waiting', 'prioritized', 'active', 'delayed', 'failed');
      return {
        waiting: (counts.waiting ?? 0) + (counts.prioritized ?? 0),
        active: counts.active ?? 0,
        delayed: counts.delayed ?? 0,
        failed: counts.failed ?? 0,
      };
    });
  }

  deadLetters(limit: number): Promise<DeadLetter[]> {
    return this.#guard(async () => {
      const jobs = await this.#queue.getJobs(['failed'], 0, limit - 1);
      return jobs.map((job) => ({
        id: job.id ?? '',
        name: job.name,
        subject: subjectOf(job.data),
        reason: job.failedReason ?? '',
        failedAt: new Date(job.finishedOn ?? 0).toISOString(),
      }));
    });
  }

  /** Puts all dead letters back to work. @returns how many there were */
  retryDeadLetters(): Promise<number> {
    return this.#guard(async () => {
      const { failed = 0 } = await this.#queue.getJobCounts('failed');
      if (failed > 0) await this.#queue.retryJobs({ state: 'failed', count: 1_000 });
      return failed;
    });
  }

  /** Removes old dead letters. */
  prune(): Promise<number> {
    return this.#guard(
      async () => (await this.#queue.clean(DEAD_LETTER_MAX_AGE_MS, 10_000, 'failed')).length,
    );
  }

  /** @param force true: do not wait for jobs in hand; they are taken up again elsewhere */
  async close(force: boolean): Promise<void> {
    await Promise.allSettled([this.#worker?.close(force), this.#queue.close()]);
    await this.#backend.close();
  }

  async #perform(processors: Processors, job: Job, token: string | undefined): Promise<unknown> {
    const name = job.name as JobName;
    await job.removeDeduplicationKey();
    const process = processors[name] as (data: unknown, progress: Progress<JobName>) => Promise<unknown>;
    try {
      return await process(job.data, {
        save: async (data, shown) => {
          await job.updateData(data);
          await job.updateProgress(shown);
        },
      });
    } catch (error) {
      const away = error instanceof UpstashFailure && error.course === 'wait';
      if (!away) throw asWorkerError(error);
      // Redis is away: that says nothing about this job.
      await job.moveToDelayed(Date.now() + AWAY_MS, token);
      throw new DelayedError();
    }
  }

  async #add<Name extends JobName>(name: Name, data: Jobs[Name], options: JobsOptions): Promise<void> {
    await this.#guard(() => this.#queue.add(name, data, options));
  }

  async #guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw new WorkerError(
        'QUEUE_UNAVAILABLE',
        this.#backend.kind === 'redis'
          ? 'The queue in QUEUE_REDIS_URL does not answer: check the address; trying again.'
          : 'The queue in the database does not answer: check that all migrations are applied; trying again.',
        { exitCode: ExitCode.unavailable, cause: error },
      );
    }
  }
}

/** The target or pattern of a job, for people. */
function subjectOf(data: unknown): string {
  if (typeof data !== 'object' || data === null) return '';
  if ('target' in data) return String(data.target);
  if ('pattern' in data) return String(data.pattern);
  return 'targets' in data && Array.isArray(data.targets) ? `${data.targets.length} targets` : '';
}
