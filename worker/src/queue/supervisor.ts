/**
 * When the queue is open and when it works: opened when first needed, working while this worker leads, opened anew after
 * a failure (BullMQ remembers a failed first contact with Postgres for ever). A follower holds no connection for it.
 *
 *     closed ── lead, use ──▶ open ── a call fails ──▶ broken ── 3 s, a new queue that works ──▶ open
 *
 * While it is broken every call fails at once: one attempt every few seconds is made here, for all of them.
 */
import { asWorkerError, WorkerError } from '../lib/errors.ts';
import type { Processors, WorkQueue } from './work-queue.ts';

const RETRY_MS = 3_000;

export interface QueueLifeParts {
  open(): WorkQueue;
  processors(): Processors;
  /** Registers what runs by the clock. */
  schedule(queue: WorkQueue): Promise<void>;
  onTrouble(error: WorkerError): void;
  /** It answered. */
  onAnswer(): void;
}

export class QueueLife {
  readonly #parts: QueueLifeParts;
  #queue: WorkQueue | null = null;
  #leading = false;
  #closed = false;
  #failure: WorkerError | null = null;
  #retry: NodeJS.Timeout | undefined;
  /** Beginnings and ends happen one after the other. */
  #last: Promise<void> = Promise.resolve();

  constructor(parts: QueueLifeParts) {
    this.#parts = parts;
  }

  /** Why nothing can be handed to the queue now; null when it can. */
  get failure(): WorkerError | null {
    return this.#failure;
  }

  /** Begins to work on jobs, however long the queue takes to be reachable. */
  lead(): void {
    this.#leading = true;
    this.#arrange();
  }

  /** Stops working on jobs and lets the connections go. */
  follow(): void {
    this.#leading = false;
    this.#arrange();
  }

  /**
   * Does something with the queue.
   *
   * @throws WorkerError QUEUE_UNAVAILABLE
   */
  async use<T>(work: (queue: WorkQueue) => Promise<T>): Promise<T> {
    // A worker that does not lead tries by itself: nobody else does.
    if (this.#failure !== null && this.#leading) throw this.#failure;
    return await this.#try(work);
  }

  /** @param force true: leave jobs in hand to whoever finds them stalled */
  async close(force: boolean): Promise<void> {
    this.#closed = true;
    this.#leading = false;
    clearTimeout(this.#retry);
    // Whatever is being arranged ends with the queue.
    await this.#queue?.close(force);
    await this.#last;
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

  #arrange(): void {
    this.#last = this.#last.then(async () => {
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
        this.#parts.onTrouble(asWorkerError(error));
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
      this.#retry = setTimeout(() => this.#arrange(), RETRY_MS);
    }
  }
}
