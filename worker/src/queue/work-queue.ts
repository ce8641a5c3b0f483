/**
 * The queue: adds jobs, works on them while this worker leads, and keeps audits that failed for good.
 *
 * Promises: a job is stored when `add` resolves. Every call ends within seconds, with an answer or an error. A call that was
 * given up may still be carried out, so a job may be added twice. All jobs are idempotent.
 *
 * Duplicates: a look at what is pending carries a deduplication id, so that a thousand requests are one job. The first thing a
 * job does is give up that id, before it reads what is pending. A suppressed request therefore always has an equal job whose
 * first read is still to come. BullMQ's own modes do not give this: the simple one drops what arrives during a run, and
 * `keepLastIfActive` drops what arrives between two attempts. See docs/protocol.md#queue.
 */
import { DelayedError, type Job } from 'bullmq';
import { asWorkerError, WorkerError } from '../lib/errors.ts';
import { answerWithin, DeadlineError, endsWithin } from '../lib/waiting.ts';
import { UpstashFailure } from '../redis/errors.ts';
import { type Backend, createJobQueue, createJobWorker, type JobQueue, type JobWorker } from './backend.ts';
import { DEAD_LETTER_MAX_AGE_MS, FALLBACK_LOOK_MS, type JobName, type Jobs, lookAfter } from './jobs.ts';

/** What each kind of job does. A rejection counts as an attempt, unless a service is away. */
export type Processors = { readonly [Name in JobName]: (data: Jobs[Name]) => Promise<unknown> };

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

/** The pause of a job while Redis or the database is away, which says nothing about the job. It costs no attempt. */
const AWAY_MS = 5_000;
const AWAY: ReadonlySet<WorkerError['code']> = new Set([
  'DATABASE_UNREACHABLE',
  'DATABASE_TOO_MANY_CONNECTIONS',
  'DATABASE_LOCKED',
  'READ_ONLY_DATABASE',
  'QUEUE_UNAVAILABLE',
]);

/** A call that takes longer has failed. Calls that read many jobs, or that may install the tables, get more time. */
const ANSWER_WITHIN_MS = 5_000;
const LONG_CALL_WITHIN_MS = 30_000;
/** BullMQ's own `close` talks to a server that may not answer. */
const CLOSE_WITHIN_MS = 1_000;
const JOBS_END_WITHIN_MS = 30_000;

export class WorkQueue {
  readonly #backend: Backend;
  readonly #onError: (error: Error) => void;
  /** What the client last recovered from, or tries to. */
  #lastError: Error | null = null;
  /** Made by the first call: BullMQ looks for its tables at once, and remembers for ever that it found none. */
  #queue: JobQueue | null = null;
  #worker: JobWorker | null = null;
  /** Aborted when the queue is closed, which ends every wait for an answer. */
  readonly #closed = new AbortController();
  #closing: Promise<void> | null = null;

  constructor(backend: Backend, onError: (error: Error) => void) {
    this.#backend = backend;
    this.#onError = (error) => {
      this.#lastError = error;
      onError(error);
    };
  }

  /** Has somebody look at what is pending. @throws WorkerError QUEUE_UNAVAILABLE */
  async look(delayMs = 0): Promise<void> {
    const { name, data, opts } = lookAfter(delayMs);
    await this.#guard((queue) => queue.add(name, data, opts));
  }

  /** Stores the schedules of the jobs that run by the clock, once for all workers. */
  async schedule(auditIntervalMs: number, sample: number): Promise<void> {
    await this.#guard(async (queue) => {
      if (auditIntervalMs > 0) {
        await queue.upsertJobScheduler(
          'audit',
          { every: auditIntervalMs },
          { name: 'audit', data: { sample }, opts: { attempts: 1 } },
        );
      } else {
        await queue.removeJobScheduler('audit');
      }
      const { name, data, opts } = lookAfter(FALLBACK_LOOK_MS);
      await queue.upsertJobScheduler(
        name,
        { every: FALLBACK_LOOK_MS },
        { name, data, opts: { removeOnFail: opts.removeOnFail ?? true } },
      );
      await queue.upsertJobScheduler('prune', { every: 86_400_000 }, { name: 'prune', data: {} });
    });
  }

  /**
   * Starts to work on jobs, once, after installing what the queue needs.
   *
   * @throws WorkerError QUEUE_UNAVAILABLE
   */
  work(processors: Processors): Promise<void> {
    if (this.#worker === null) this.#backend.install();
    return this.#guard(
      async (queue) => {
        if (this.#worker !== null) return;
        await queue.waitUntilReady();
        // The queue was closed, or another call was quicker, while the connection was being made.
        if (this.#closing !== null || this.#worker !== null) return;
        const worker = createJobWorker(this.#backend, (job, token) => this.#perform(processors, job, token));
        worker.on('error', this.#onError);
        this.#worker = worker;
        await worker.waitUntilReady();
      },
      this.#backend.kind === 'postgres' ? LONG_CALL_WITHIN_MS : ANSWER_WITHIN_MS,
    );
  }

  counts(): Promise<QueueCounts> {
    return this.#guard(async (queue) => {
      const counts = await queue.getJobCounts('waiting', 'prioritized', 'active', 'delayed', 'failed');
      return {
        waiting: (counts.waiting ?? 0) + (counts.prioritized ?? 0),
        active: counts.active ?? 0,
        delayed: counts.delayed ?? 0,
        failed: counts.failed ?? 0,
      };
    });
  }

  deadLetters(limit: number): Promise<DeadLetter[]> {
    return this.#guard(async (queue) => {
      const jobs = await queue.getJobs(['failed'], 0, limit - 1);
      return jobs.map((job) => ({
        id: job.id ?? '',
        name: job.name,
        subject: '',
        reason: job.failedReason ?? '',
        failedAt: new Date(job.finishedOn ?? 0).toISOString(),
      }));
    });
  }

  /** Puts all failed jobs back to work. @returns how many there were */
  retryDeadLetters(): Promise<number> {
    return this.#guard(async (queue) => {
      const { failed = 0 } = await queue.getJobCounts('failed');
      if (failed > 0) await queue.retryJobs({ state: 'failed', count: 1_000 });
      return failed;
    }, LONG_CALL_WITHIN_MS);
  }

  /** Removes old dead letters. */
  prune(): Promise<number> {
    return this.#guard(
      async (queue) => (await queue.clean(DEAD_LETTER_MAX_AGE_MS, 10_000, 'failed')).length,
      LONG_CALL_WITHIN_MS,
    );
  }

  /**
   * Ends within seconds, whatever the server does; within half a minute where it waits for running jobs.
   *
   * @param force true: do not wait for running jobs; another worker runs them again
   */
  close(force: boolean): Promise<void> {
    this.#closing ??= this.#close(force);
    return this.#closing;
  }

  async #close(force: boolean): Promise<void> {
    // A running job may need the queue once more before it ends.
    if (!force && this.#worker !== null) await endsWithin(JOBS_END_WITHIN_MS, this.#worker.close(false));
    this.#closed.abort(new Error('the queue is closed'));
    const ends = Promise.allSettled([this.#worker?.close(true), this.#queue?.close()]);
    await endsWithin(CLOSE_WITHIN_MS, ends);
    await endsWithin(CLOSE_WITHIN_MS, this.#backend.close());
  }

  async #perform(processors: Processors, job: Job, token: string | undefined): Promise<unknown> {
    await job.removeDeduplicationKey();
    const process = processors[job.name as JobName] as (data: unknown) => Promise<unknown>;
    try {
      return await process(job.data);
    } catch (error) {
      if (!isAway(error)) throw asWorkerError(error);
      await job.moveToDelayed(Date.now() + AWAY_MS, token);
      throw new DelayedError();
    }
  }

  async #guard<T>(work: (queue: JobQueue) => Promise<T>, withinMs = ANSWER_WITHIN_MS): Promise<T> {
    try {
      this.#lastError = null;
      const answer = this.#backend.ready().then(() => work(this.#opened()));
      return await answerWithin(withinMs, answer, this.#closed.signal);
    } catch (error) {
      // BullMQ tries again by itself and tells only its events why.
      throw this.#backend.explain(error instanceof DeadlineError ? (this.#lastError ?? error) : error);
    }
  }

  #opened(): JobQueue {
    if (this.#queue === null) {
      // A call that was given up before the queue was closed must not open it again.
      this.#closed.signal.throwIfAborted();
      this.#queue = createJobQueue(this.#backend);
      this.#queue.on('error', this.#onError);
    }
    return this.#queue;
  }
}

/** A service that is away says nothing about the job. */
function isAway(error: unknown): boolean {
  if (error instanceof UpstashFailure) return error.course === 'wait';
  return error instanceof WorkerError && AWAY.has(error.code);
}
