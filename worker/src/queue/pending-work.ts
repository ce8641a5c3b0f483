/**
 * Works on cache_invalidation.pending: targets that Redis refused, patterns to be swept, second deletions for loaders on
 * replicas; those that are throttled are the delivery loop's. The table is the one truth of what is pending. The queue only starts `run` at the right time, and the end of a job
 * means nothing: a target leaves the table when Redis has confirmed its DEL.
 *
 *     request(ms) ──▶ one job of the queue, for the earliest time asked for ──▶ run ──▶ request(until the next target is due)
 *
 * A job that is lost costs time: one that runs every 30 s finds what is due, as does each new term of leadership. Deletions and
 * sweeps run beside each other, each of them once at a time. Why nothing is lost: docs/protocol.md#pending
 */
import type { SweepState } from '../../../supabase/functions/_shared/cache/protocol/sweep.ts';
import type { Pending, PendingCounts, PendingTarget } from '../db/pending.ts';
import { type ApplyParts, apply, deleteProbe } from '../redis/apply.ts';
import { classify } from '../redis/errors.ts';
import { sweep } from './sweep.ts';
import type { QueueCounts } from './work-queue.ts';

const BATCH_TARGETS = 2_000;
const SWEEPS_A_RUN = 100;

/** The pause between two attempts to find refused targets among others; the token bucket refills meanwhile. */
export const UNDECIDED_PAUSE_MS = 2_000;

/** After a failure of Redis or Postgres, which costs no attempt. */
const AWAY_MS = 5_000;

/** Between two runs, so that second deletions that are due one after the other share a run. */
const LEAST_PAUSE_MS = 200;

export interface PendingWorkParts extends ApplyParts {
  readonly pending: Pick<Pending, 'due' | 'nextDueMs' | 'confirm' | 'refused' | 'postpone' | 'save'>;
  /** Milliseconds by which the loaders' replicas lag; 0 without replicas. */
  readonly replicaLagMs: number;
  /** Adds a job that calls `run`. */
  add(delayMs: number): Promise<void>;
  /** Of Redis, of the queue or of the database. */
  onError(error: unknown): void;
}

export class PendingWork {
  readonly #parts: PendingWorkParts;
  readonly #deletes: Repeat;
  readonly #sweeps: Repeat;
  /** When the next job runs that was asked for here; Infinity: none was. */
  #nextRunAt = Infinity;
  #stopped = false;

  constructor(parts: PendingWorkParts) {
    this.#parts = parts;
    this.#deletes = new Repeat(() => this.#deleteDue());
    this.#sweeps = new Repeat(() => this.#sweepDue());
  }

  /** Has `run` called in so many milliseconds, or earlier; Infinity: not at all. Never waits, never throws. */
  request(inMs: number): void {
    const at = performance.now() + inMs;
    if (this.#stopped || this.#nextRunAt <= at) return;
    this.#nextRunAt = at;
    void this.#parts.add(inMs).catch((error: unknown) => {
      // No job will run then: the next request must ask for one.
      if (this.#nextRunAt === at) this.#nextRunAt = Infinity;
      this.#parts.onError(error);
    });
  }

  /** Works on what is due. Never rejects. */
  async run(): Promise<void> {
    this.#nextRunAt = Infinity;
    await Promise.all([this.#run('delete', this.#deletes), this.#run('sweep', this.#sweeps)]);
  }

  /** Begins nothing more. */
  stop(): void {
    this.#stopped = true;
  }

  async #run(kind: 'delete' | 'sweep', work: Repeat): Promise<void> {
    try {
      if (!(await work.run())) return;
      const nextMs = await this.#parts.pending.nextDueMs(kind);
      if (nextMs !== null) this.request(Math.max(nextMs, LEAST_PAUSE_MS));
    } catch (error) {
      this.#parts.onError(error);
      this.request(AWAY_MS);
    }
  }

  async #deleteDue(): Promise<void> {
    // What is still due after a part of a batch waits for the next run: somebody may be writing it.
    for (let isFull = true; isFull && !this.#stopped; ) {
      const due = await this.#parts.pending.due('delete', BATCH_TARGETS);
      isFull = due.length === BATCH_TARGETS;
      // Those that are known to be refused must not use up the tokens of the others.
      await this.#delete(due.filter(({ attempts }) => attempts === 0));
      await this.#delete(due.filter(({ attempts }) => attempts > 0));
    }
  }

  async #delete(targets: readonly PendingTarget[]): Promise<void> {
    if (targets.length === 0) return;
    const { pending, replicaLagMs } = this.#parts;
    const { refused, undecided } = await apply(
      this.#parts,
      targets.map(({ target }) => target),
    );
    const unknown = new Set(undecided);
    await pending.confirm(
      targets.filter(({ target }) => !refused.has(target) && !unknown.has(target)),
      replicaLagMs,
    );
    const alone = targets.filter(({ target }) => refused.has(target));
    await pending.refused(
      alone,
      alone.map(({ target }) => refused.get(target)?.code ?? ''),
    );
    await pending.postpone(
      targets.filter(({ target }) => unknown.has(target)),
      UNDECIDED_PAUSE_MS,
    );
  }

  async #sweepDue(): Promise<void> {
    for (const pattern of await this.#parts.pending.due('sweep', SWEEPS_A_RUN)) {
      if (!this.#stopped) await this.#sweep(pattern);
    }
  }

  async #sweep(pattern: PendingTarget): Promise<void> {
    const { pending, cache, replicaLagMs } = this.#parts;
    try {
      // A pattern such as order:? is the name of a key, too.
      const { refused } = await apply(this.#parts, [pattern.target]);
      for (const failure of refused.values()) throw failure;
      await sweep(cache, pattern.target, pattern.state as SweepState | null, (state) =>
        pending.save(pattern, state),
      );
    } catch (error) {
      const failure = classify(error);
      if (failure.course === 'wait') throw error;
      // A refusal counts as an attempt only of a server that serves.
      await deleteProbe(cache);
      return await pending.refused([pattern], [failure.code]);
    }
    await pending.confirm([pattern], replicaLagMs);
  }
}

/** Work of which only one runs at a time. A call during a run starts it once more, when the run ends. */
class Repeat {
  readonly #work: () => Promise<void>;
  #running = false;
  #again = false;

  constructor(work: () => Promise<void>) {
    this.#work = work;
  }

  /** @returns false at once when it is running already */
  async run(): Promise<boolean> {
    this.#again = true;
    if (this.#running) return false;
    this.#running = true;
    try {
      while (this.#again) {
        this.#again = false;
        await this.#work();
      }
      return true;
    } finally {
      this.#running = false;
    }
  }
}

/** The queue's jobs and what is pending, as one: people see what waits, and what was given up. */
export function withPending(jobs: QueueCounts, { due, later, failed }: PendingCounts): QueueCounts {
  return {
    waiting: jobs.waiting + due,
    active: jobs.active,
    delayed: jobs.delayed + later,
    failed: jobs.failed + failed,
  };
}
