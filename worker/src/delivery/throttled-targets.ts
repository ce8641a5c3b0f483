/**
 * Throttled targets (those with a min_interval), kept in cache_invalidation.deferred: when the next one is due, running
 * those that are due, and removing those that are no longer needed. Why none is lost: docs/protocol.md#throttled-targets.
 *
 * The next due time is cached for 1 s. Only another worker or manual SQL can make it out of date. Times are by this
 * process's monotonic clock: a database whose clock steps delays nothing.
 */
import type { DueTarget, Outbox } from '../db/outbox.ts';

/** Targets in one batch. */
const BATCH_TARGETS = 1_000;

const CACHED_MS = 1_000;

/** From a target's run until the first clean-up. After that the database says when to clean up next. */
const CLEAN_UP_AFTER_MS = 60_000;

export class ThrottledTargets {
  readonly #outbox: Pick<Outbox, 'nextDue' | 'due' | 'settle' | 'forgetThrottled'>;
  /** When the next one is due; null when none waits. */
  #dueAt: number | null = null;
  /** When that was queried; -Infinity: query again. */
  #queriedAt = -Infinity;
  /** When to clean up; null when there is nothing to clean up. */
  #cleanUpAt: number | null = 0;
  /** Counts the changes: a query that began before one is out of date. */
  #changes = 0;

  constructor(outbox: Pick<Outbox, 'nextDue' | 'due' | 'settle' | 'forgetThrottled'>) {
    this.#outbox = outbox;
  }

  /** Drops everything cached. */
  reset(): void {
    this.changed();
    this.#cleanUpAt = 0;
  }

  /** Rows are being moved to `deferred`, or an interval begins. */
  changed(): void {
    this.#changes++;
    this.#queriedAt = -Infinity;
    this.#cleanUpAt ??= performance.now() + CLEAN_UP_AFTER_MS;
  }

  /** Milliseconds until the next one is due; null when none waits. */
  get dueInMs(): number | null {
    return this.#dueAt === null ? null : Math.max(0, this.#dueAt - performance.now());
  }

  /**
   * Runs the targets that are due.
   *
   * @param apply resolves when Redis has confirmed the targets, or rows in the outbox replace them; to false to stop here
   * @returns how many were run
   */
  async run(maxBatches: number, apply: (due: readonly DueTarget[]) => Promise<boolean>): Promise<number> {
    if (performance.now() - this.#queriedAt >= CACHED_MS) await this.#query();
    let count = 0;
    for (let batches = 0; batches < maxBatches && this.dueInMs === 0; batches++) {
      const { run, targets } = await this.#outbox.due(BATCH_TARGETS);
      if (targets.length === 0) {
        // Another session has brought the next one forward, or has locked its row.
        await this.#query();
        if (this.dueInMs === 0) this.#dueAt = performance.now() + CACHED_MS;
        break;
      }
      const proceed = await apply(targets);
      await this.#outbox.settle(
        targets.map(({ target }) => target),
        run,
      );
      this.changed();
      // Only now: before `settle` the query would find this run's own lease.
      await this.#query();
      count += targets.length;
      if (!proceed) break;
    }
    return count;
  }

  /** Removes some of the targets whose interval ended long ago, if it is time. */
  async cleanUpIfDue(): Promise<void> {
    if (this.#cleanUpAt === null || this.#cleanUpAt > performance.now()) return;
    const changes = this.#changes;
    const inMs = await this.#outbox.forgetThrottled();
    if (changes === this.#changes) this.#cleanUpAt = inMs === null ? null : performance.now() + inMs;
  }

  async #query(): Promise<void> {
    const changes = this.#changes;
    const inMs = await this.#outbox.nextDue();
    const now = performance.now();
    this.#dueAt = inMs === null ? null : now + inMs;
    if (changes === this.#changes) this.#queriedAt = now;
  }
}
