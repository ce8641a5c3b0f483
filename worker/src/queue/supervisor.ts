/**
 * Opens the queue when it is first needed, works on its jobs while this worker leads, and opens a new one after a failure:
 * BullMQ remembers a failed first contact with Postgres for ever. A follower keeps no connection for the queue.
 *
 *     closed ── lead, use ──▶ open ── a call fails ──▶ broken ── 3 s, a new queue answers ──▶ open
 *
 * While it is broken, every call fails at once; one attempt every 3 s is made here, for all of them. Each attempt of a
 * leader also installs the queue's tables where they are missing, so that a right granted later needs no restart.
 */
import { asWorkerError, WorkerError } from '../lib/errors.ts';
import { Serial } from '../lib/waiting.ts';
import type { Processors, WorkQueue } from './work-queue.ts';

const RETRY_MS = 3_000;

export interface QueueSupervisorParts {
  open(): WorkQueue;
  processors(): Processors;
  /** Stores the schedules of the jobs that run by the clock. */
  schedule(queue: WorkQueue): Promise<void>;
  onError(error: WorkerError): void;
  /** The queue answered. */
  onAnswer(): void;
}

export class QueueSupervisor {
  readonly #parts: QueueSupervisorParts;
  #queue: WorkQueue | null = null;
  #leading = false;
  #closed = false;
  #failure: WorkerError | null = null;
  #retry: NodeJS.Timeout | undefined;
  readonly #changes = new Serial();

  constructor(parts: QueueSupervisorParts) {
    this.#parts = parts;
  }

  /** Why the queue takes nothing now; null when it works. */
  get failure(): WorkerError | null {
    return this.#failure;
  }

  /** Starts to work on jobs as soon as the queue can be reached. */
  lead(): void {
    this.#leading = true;
    this.#applyRole();
  }

  /** Stops working on jobs and closes the connections. */
  follow(): void {
    this.#leading = false;
    this.#applyRole();
  }

  /**
   * Makes one call to the queue.
   *
   * @throws WorkerError QUEUE_UNAVAILABLE
   */
  async use<T>(work: (queue: WorkQueue) => Promise<T>): Promise<T> {
    // Only a leader has a timer for the next attempt.
    if (this.#failure !== null && this.#leading) throw this.#failure;
    return await this.#try(work);
  }

  /** @param force true: leave running jobs to the worker that finds them stalled */
  async close(force: boolean): Promise<void> {
    this.#closed = true;
    this.#leading = false;
    clearTimeout(this.#retry);
    // Closing the queue ends a change that is under way.
    await this.#queue?.close(force);
    await this.#changes.settled();
    await this.#queue?.close(force);
    this.#queue = null;
  }

  async #try<T>(work: (queue: WorkQueue) => Promise<T>): Promise<T> {
    if (this.#closed) throw new WorkerError('STOPPED', 'The worker is stopping.');
    this.#queue ??= this.#parts.open();
    const queue = this.#queue;
    try {
      const result = await work(queue);
      if (this.#queue === queue) this.#failure = null;
      this.#parts.onAnswer();
      return result;
    } catch (error) {
      this.#discard(queue, asWorkerError(error));
      throw error;
    }
  }

  #applyRole(): void {
    void this.#changes.run(async () => {
      clearTimeout(this.#retry);
      if (this.#closed) return;
      try {
        if (this.#leading) {
          await this.#try(async (queue) => {
            await queue.work(this.#parts.processors());
            await this.#parts.schedule(queue);
          });
        } else {
          const queue = this.#queue;
          this.#queue = null;
          this.#failure = null;
          await queue?.close(false);
        }
      } catch (error) {
        // #discard has set the time for the next attempt.
        this.#parts.onError(asWorkerError(error));
      }
    });
  }

  #discard(queue: WorkQueue, failure: WorkerError): void {
    if (this.#queue !== queue) return;
    this.#queue = null;
    this.#failure = failure;
    void queue.close(true).catch(() => undefined);
    if (this.#leading && !this.#closed) {
      clearTimeout(this.#retry);
      this.#retry = setTimeout(() => this.#applyRole(), RETRY_MS);
    }
  }
}
