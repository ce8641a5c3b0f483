/**
 * The queue: adds jobs, works on them while this worker leads, and keeps what failed for good as dead letters.
 *
 * Adding is durable when it resolves; an outbox row is acknowledged only then (hand-over.ts). Every call ends: with an
 * answer, with the queue's closing, or after a few seconds, whatever its database or its Redis does. A call that was given
 * up may still be carried out, so a job may be added twice; all are idempotent.
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
import { DelayedError, type Job } from 'bullmq';
import { answerWithin, endsWithin } from '../lib/deadline.ts';
import { asWorkerError, ExitCode, WorkerError } from '../lib/errors.ts';
import { UpstashFailure } from '../redis/errors.ts';
import type { Backend } from './backend.ts';
import { createJobQueue, createJobWorker, type JobQueue, type JobWorker } from './bullmq.ts';
import { jobsOf } from './job-requests.ts';
import { DEAD_LETTER_MAX_AGE_MS, type Errand, type JobName, type Jobs } from './jobs.ts';

/** What each kind of job does. A rejection counts as an attempt, unless Redis is merely away. */
export type Processors = {
  readonly [Name in JobName]: (data: Jobs[Name], progress: Progress<Name>) => Promise<unknown>;
};

export interface Progress<Name extends JobName> {
  /** Keeps where the job is, so that another attempt goes on from there. */
  save(data: Jobs[Name], shown: object): Promise<void>;
}

/** Thrown by a process that has done its share for now: the rest is done later, and no attempt is lost. */
export class Unfinished extends Error {
  readonly againInMs: number;

  constructor(againInMs: number) {
    super('unfinished');
    this.name = 'Unfinished';
    this.againInMs = againInMs;
  }
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

/** A call that takes longer has failed; what looks through many jobs may take longer. */
const ANSWER_WITHIN_MS = 5_000;
const LOOK_THROUGH_WITHIN_MS = 30_000;
/** BullMQ's own closing talks to a server that may not answer. */
const CLOSE_WITHIN_MS = 1_000;
const JOBS_END_WITHIN_MS = 30_000;

export class WorkQueue {
  readonly #backend: Backend;
  readonly #queue: JobQueue;
  readonly #onError: (error: Error) => void;
  #worker: JobWorker | null = null;
  /** Aborted when the queue is closed: nobody waits for an answer after that. */
  readonly #closed = new AbortController();
  #closing: Promise<void> | null = null;

  constructor(backend: Backend, onError: (error: Error) => void) {
    this.#backend = backend;
    this.#onError = onError;
    this.#queue = createJobQueue(backend);
    this.#queue.on('error', onError);
  }

  /** Takes over all of these, in one call; durable when it resolves. @throws WorkerError QUEUE_UNAVAILABLE */
  async add(errands: readonly Errand[]): Promise<void> {
    const jobs = jobsOf(errands);
    if (jobs.length > 0) await this.#guard(() => this.#queue.addBulk(jobs));
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
      // Closed, or begun by another call, while the connection was being made.
      if (this.#closing !== null || this.#worker !== null) return;
      const worker = createJobWorker(this.#backend, (job, token) => this.#perform(processors, job, token));
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
    }, LOOK_THROUGH_WITHIN_MS);
  }

  /** Removes old dead letters. */
  prune(): Promise<number> {
    return this.#guard(
      async () => (await this.#queue.clean(DEAD_LETTER_MAX_AGE_MS, 10_000, 'failed')).length,
      LOOK_THROUGH_WITHIN_MS,
    );
  }

  /**
   * Ends in seconds, whatever the server does, and after half a minute when jobs in hand are waited for.
   *
   * @param force true: do not wait for jobs in hand; they are taken up again elsewhere
   */
  close(force: boolean): Promise<void> {
    this.#closing ??= this.#close(force);
    return this.#closing;
  }

  async #close(force: boolean): Promise<void> {
    // A job in hand may need the queue once more before it ends.
    if (!force && this.#worker !== null) await endsWithin(JOBS_END_WITHIN_MS, this.#worker.close(false));
    this.#closed.abort(new Error('the queue is closed'));
    const ends = Promise.allSettled([this.#worker?.close(true), this.#queue.close()]);
    await endsWithin(CLOSE_WITHIN_MS, ends);
    await endsWithin(CLOSE_WITHIN_MS, this.#backend.close());
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
      const later = this.#laterMs(error);
      if (later === null) throw asWorkerError(error);
      await job.moveToDelayed(Date.now() + later, token);
      throw new DelayedError();
    }
  }

  /** When to run a job again that has not failed; null when it has. */
  #laterMs(error: unknown): number | null {
    if (error instanceof Unfinished) return error.againInMs;
    // Redis is away: that says nothing about this job.
    return error instanceof UpstashFailure && error.course === 'wait' ? AWAY_MS : null;
  }

  async #guard<T>(work: () => Promise<T>, withinMs = ANSWER_WITHIN_MS): Promise<T> {
    try {
      return await answerWithin(withinMs, this.#backend.ready().then(work), this.#closed.signal);
    } catch (error) {
      throw new WorkerError(
        'QUEUE_UNAVAILABLE',
        this.#backend.kind === 'redis'
          ? 'The queue in QUEUE_REDIS_URL does not answer: check the address and that its Redis is up; trying again.'
          : 'The queue in the database does not answer: check that all migrations are applied and that the role may use schema cache_invalidation_queue; trying again.',
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
