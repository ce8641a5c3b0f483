/**
 * When the queue is open and when it works: opened when first needed, working while this worker leads, opened anew after
 * a failure (BullMQ remembers a failed first contact with Postgres for ever). A follower holds no connection for it.
 */
import { asWorkerError, type WorkerError } from '../errors.ts';
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
  #retry: NodeJS.Timeout | undefined;
  /** Beginnings and ends happen one after the other. */
  #last: Promise<void> = Promise.resolve();

  constructor(parts: QueueLifeParts) {
    this.#parts = parts;
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
    this.#queue ??= this.#parts.open();
    const queue = this.#queue;
    try {
      const result = await work(queue);
      this.#parts.onAnswer();
      return result;
    } catch (error) {
      this.#discard(queue);
      throw error;
    }
  }

  /** @param force true: leave jobs in hand to whoever finds them stalled */
  async close(force: boolean): Promise<void> {
    this.#closed = true;
    this.#leading = false;
    clearTimeout(this.#retry);
    await this.#last;
    await this.#queue?.close(force);
    this.#queue = null;
  }

  #arrange(): void {
    this.#last = this.#last.then(async () => {
      clearTimeout(this.#retry);
      if (this.#closed) return;
      try {
        if (this.#leading) {
          await this.use(async (queue) => {
            await queue.work(this.#parts.processors());
            await this.#parts.schedule(queue);
          });
        } else {
          const queue = this.#queue;
          this.#queue = null;
          await queue?.close(false);
        }
      } catch (error) {
        this.#parts.onTrouble(asWorkerError(error));
        if (this.#leading && !this.#closed) this.#retry = setTimeout(() => this.#arrange(), RETRY_MS);
      }
    });
  }

  #discard(queue: WorkQueue): void {
    if (this.#queue !== queue) return;
    this.#queue = null;
    void queue.close(true).catch(() => undefined);
    if (this.#leading && !this.#closed) {
      clearTimeout(this.#retry);
      this.#retry = setTimeout(() => this.#arrange(), RETRY_MS);
    }
  }
}
