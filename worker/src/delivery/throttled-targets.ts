/**
 * Deferred targets (those with a min_interval) as the drain sees them: when one is due, whether it is, and when those that
 * have rested may be forgotten. What they are and why none is lost stands in supabase/migrations (…_fencepost_deferred.sql).
 *
 * Asking costs a statement, so what is known holds for a second, unless this worker changes it. Nothing else brings a
 * target forward, but hands and other workers. Times are by this process's monotonic clock: a database whose clock steps
 * wakes nobody late.
 */
import type { DueTarget, Outbox } from '../db/outbox.ts';

/** Targets in one go. */
const DUE_TARGETS = 1_000;

const KNOWN_MS = 1_000;

/** From a target's run until it is looked whether any can be forgotten; the database says when after that. */
const FORGET_MS = 60_000;

export class Deferred {
  readonly #outbox: Pick<Outbox, 'nextDue' | 'due' | 'settle' | 'forgetThrottled'>;
  /** When the next one is due; null when none waits. */
  #dueAt: number | null = null;
  /** When that was asked; -Infinity when it has to be asked again. */
  #askedAt = -Infinity;
  /** When targets may be forgotten; null when none rests. */
  #forgetAt: number | null = 0;
  /** Counts what makes an answer that is under way too old. */
  #changes = 0;

  constructor(outbox: Pick<Outbox, 'nextDue' | 'due' | 'settle' | 'forgetThrottled'>) {
    this.#outbox = outbox;
  }

  /** Nothing is known any more. */
  forget(): void {
    this.changed();
    this.#forgetAt = 0;
  }

  /** Events are being set aside, or their targets begin to rest. */
  changed(): void {
    this.#changes++;
    this.#askedAt = -Infinity;
    this.#forgetAt ??= performance.now() + FORGET_MS;
  }

  /** Milliseconds until the next one is due; null when none waits. */
  get dueInMs(): number | null {
    return this.#dueAt === null ? null : Math.max(0, this.#dueAt - performance.now());
  }

  /**
   * Runs those that are due.
   *
   * @param most times that targets are taken
   * @param apply resolves when Redis has confirmed the targets, or rows in the outbox stand for them; to false to end here
   * @returns how many were run
   */
  async run(most: number, apply: (due: readonly DueTarget[]) => Promise<boolean>): Promise<number> {
    if (performance.now() - this.#askedAt >= KNOWN_MS) await this.#ask();
    let count = 0;
    for (let times = 0; times < most && this.dueInMs === 0; times++) {
      const { run, targets } = await this.#outbox.due(DUE_TARGETS);
      if (targets.length === 0) {
        // Somebody brought the next one back, or has locked its row.
        await this.#ask();
        if (this.dueInMs === 0) this.#dueAt = performance.now() + KNOWN_MS;
        break;
      }
      const goesOn = await apply(targets);
      await this.#outbox.settle(
        targets.map(({ target }) => target),
        run,
      );
      this.changed();
      // Not before: until then the run's own lease is what is due next.
      await this.#ask();
      count += targets.length;
      if (!goesOn) break;
    }
    return count;
  }

  /** Forgets some of those that have rested enough, if it is time. */
  async forgetThrottled(): Promise<void> {
    if (this.#forgetAt === null || this.#forgetAt > performance.now()) return;
    const changes = this.#changes;
    const inMs = await this.#outbox.forgetThrottled();
    if (changes === this.#changes) this.#forgetAt = inMs === null ? null : performance.now() + inMs;
  }

  async #ask(): Promise<void> {
    const changes = this.#changes;
    const inMs = await this.#outbox.nextDue();
    const now = performance.now();
    this.#dueAt = inMs === null ? null : now + inMs;
    if (changes === this.#changes) this.#askedAt = now;
  }
}
