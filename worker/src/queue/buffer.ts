/**
 * Gives the queue what delivery does not do itself (sweeps, refused targets, second deletes), beside delivery and without
 * ever blocking it.
 *
 *     delivery ── take ──▶ kept here; the row stays in the outbox ── one call for many ──▶ queue ──▶ row acknowledged
 *
 * States: `idle` (nothing is kept), `sending` (one call to the queue is open), `pausing` (the last call failed). In each
 * of them `missed` may be set: there was no room for some row, which is left to the outbox alone. When everything kept has
 * been sent, a `missed` row makes delivery start again from the beginning of the outbox.
 *
 * Promise: a row that needs the queue leaves the outbox only after the queue has stored its job. Until then it is kept
 * here, or `missed` is set, or delivery is about to start again. A crash forgets everything here and delivery's position
 * with it. A row that comes twice costs one job that finds nothing to do. Why this holds: docs/protocol.md#queue
 */
import { groupsOf } from '../../../supabase/functions/_shared/cache/redis/requests.ts';
import { asWorkerError, type WorkerError } from '../lib/errors.ts';
import { backoffMs } from '../lib/waiting.ts';
import type { JobRequest } from './jobs.ts';

/** Rows of one batch that need the same jobs. */
export interface QueueRequest {
  /** The keys of the rows, pairwise, as Postgres arrays in text form. */
  readonly xids: string;
  readonly ids: string;
  readonly rows: number;
  /** The batch has targets with a min_interval. */
  readonly throttled: boolean;
  readonly jobs: readonly JobRequest[];
}

export interface QueueBufferParts {
  add(jobs: readonly JobRequest[]): Promise<void>;
  acknowledge(rows: { readonly xids: string; readonly ids: string }, throttled: boolean): Promise<unknown>;
  /** Everything kept has been sent, and there was no room for more: delivery must read the outbox from its beginning. */
  onMissed(): void;
  onError(error: WorkerError): void;
}

/** Characters of row keys and targets that are kept at most: about 30 MB of memory. */
const CHARACTERS_MOST = 10_000_000;
/** Characters in one call to the queue. A single request may be larger. */
const CALL_CHARACTERS = 500_000;
const PAUSE_FIRST_MS = 500;
const PAUSE_MOST_MS = 10_000;

export class QueueBuffer {
  readonly #parts: QueueBufferParts;
  readonly #most: number;
  #requests: QueueRequest[] = [];
  #characters = 0;
  #rows = 0;
  #missed = false;
  #failures = 0;
  #failure: WorkerError | null = null;
  #sending = false;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;
  #waiting: (() => void)[] = [];

  constructor(parts: QueueBufferParts, charactersMost: number = CHARACTERS_MOST) {
    this.#parts = parts;
    this.#most = charactersMost;
  }

  /** Rows kept here. When `missed` is set, more wait in the outbox. */
  get rows(): number {
    return this.#rows;
  }

  /** There was no room for some row. */
  get missed(): boolean {
    return this.#missed;
  }

  /** Why the last rows could not be handed over: the queue did not take their jobs, or the database did not delete them. */
  get failure(): WorkerError | null {
    return this.#failure;
  }

  get failing(): boolean {
    return this.#failure !== null;
  }

  /** Keeps the rows until the queue has their jobs. Never waits and never throws. */
  take(request: QueueRequest): void {
    if (this.#stopped || request.rows === 0) return;
    const size = sizeOf(request);
    if (this.#characters > 0 && this.#characters + size > this.#most) {
      this.#missed = true;
      return;
    }
    this.#requests.push(detached(request));
    this.#characters += size;
    this.#rows += request.rows;
    this.#start();
  }

  /**
   * Resolves when the buffer is less than half full, so that a backlog does not outrun a working queue. Resolves at once
   * while the queue fails.
   */
  async room(): Promise<void> {
    while (this.#characters > this.#most / 2 && !this.failing && !this.#stopped)
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  /** Delivery starts again from the beginning of the outbox: every row there comes again. */
  forget(): void {
    this.#requests = [];
    this.#characters = 0;
    this.#rows = 0;
    this.#missed = false;
    this.#wakeWaiting();
  }

  /** What was kept stays in the outbox for the next worker. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.forget();
  }

  #start(): void {
    if (this.#sending || this.#timer !== undefined || this.#stopped) return;
    this.#sending = true;
    void this.#sendAll().finally(() => {
      this.#sending = false;
      this.#wakeWaiting();
      // Rows may have been taken after the loop below saw none.
      if (this.#requests.length > 0) this.#start();
    });
  }

  async #sendAll(): Promise<void> {
    // Rows taken in the same turn go in one call.
    await Promise.resolve();
    while (this.#requests.length > 0 && !this.#stopped) {
      const requests = this.#next();
      try {
        await this.#send(requests);
      } catch (error) {
        this.#pause(asWorkerError(error));
        return;
      }
      this.#failures = 0;
      this.#failure = null;
      // `forget` may have emptied the list during the call, and new requests may have been added.
      if (this.#requests[0] === requests[0]) this.#requests.splice(0, requests.length);
      this.#count();
      this.#wakeWaiting();
    }
    if (!this.#missed) return;
    this.#missed = false;
    this.#parts.onMissed();
  }

  /** The oldest requests that fit into one call. */
  #next(): readonly QueueRequest[] {
    return groupsOf(this.#requests, sizeOf, CALL_CHARACTERS).next().value ?? [];
  }

  async #send(requests: readonly QueueRequest[]): Promise<void> {
    await this.#parts.add(merged(requests.flatMap((request) => request.jobs)));
    await this.#parts.acknowledge(
      {
        xids: joined(requests.map((request) => request.xids)),
        ids: joined(requests.map((request) => request.ids)),
      },
      requests.some((request) => request.throttled),
    );
  }

  #pause(failure: WorkerError): void {
    const ms = backoffMs(this.#failures++, PAUSE_FIRST_MS, PAUSE_MOST_MS);
    this.#failure = failure;
    this.#parts.onError(failure);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#start();
    }, ms);
  }

  #count(): void {
    this.#characters = this.#requests.reduce((sum, request) => sum + sizeOf(request), 0);
    this.#rows = this.#requests.reduce((sum, request) => sum + request.rows, 0);
  }

  #wakeWaiting(): void {
    for (const resume of this.#waiting.splice(0)) resume();
  }
}

/** Merges the lists of targets. The longest delay counts: a second delete may come later than asked, never earlier. */
function merged(jobs: readonly JobRequest[]): JobRequest[] {
  const targets = new Set<string>();
  const bisect = new Set<string>();
  let delayMs = 0;
  const others: JobRequest[] = [];
  for (const job of jobs) {
    if (job.kind === 'second-delete') {
      delayMs = Math.max(delayMs, job.delayMs);
      for (const target of job.targets) targets.add(target);
    } else if (job.kind === 'bisect') for (const target of job.targets) bisect.add(target);
    else others.push(job);
  }
  if (bisect.size > 0) others.push({ kind: 'bisect', targets: [...bisect] });
  if (targets.size > 0) others.push({ kind: 'second-delete', targets: [...targets], delayMs });
  return others;
}

function joined(arrays: readonly string[]): string {
  return `{${arrays.map((array) => array.slice(1, -1)).join(',')}}`;
}

function sizeOf({ xids, ids, jobs }: QueueRequest): number {
  return jobs.reduce((sum, job) => sum + charactersOf(job), xids.length + ids.length);
}

function charactersOf(job: JobRequest): number {
  if ('targets' in job) return job.targets.reduce((sum, target) => sum + target.length + 16, 0);
  return (job.kind === 'retry' ? job.target : job.pattern).length + 16;
}

/** A copy that shares no text with the batch: a slice of a long string keeps the whole string in memory. */
function detached(request: QueueRequest): QueueRequest {
  return JSON.parse(JSON.stringify(request)) as QueueRequest;
}
