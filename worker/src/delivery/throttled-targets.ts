/**
 * Throttled targets: those of watches with a min_interval. One that ran less than its interval ago waits in `pending`, until the
 * delivery loop runs it. When each ran last is known to this process alone. A new leader knows of none, so a target may run
 * early, once. Why none is lost: docs/protocol.md#throttled-targets.
 *
 * The next due time is cached for 1 s. Only another worker or manual SQL can make it out of date. Times are by this
 * process's monotonic clock.
 */
import { hash } from 'node:crypto';
import type { ClaimedTarget } from '../db/outbox-batch.ts';
import type { Pending, PendingTarget } from '../db/pending.ts';

/** Targets in one run. */
const RUN_TARGETS = 1_000;

const CACHED_MS = 1_000;

/** No clock reaches a longer interval. */
const INTERVAL_MOST_MS = 366 * 86_400_000;

/** Targets that are remembered. */
const REMEMBERED_MOST = 100_000;

interface Known {
  /** When it ran last. */
  readonly ranAt: number;
  /** An event has waited since; its run serves all that come before it. */
  waitsUntil: number | null;
}

/** The distinct targets of a batch. */
export interface Split {
  readonly now: readonly string[];
  /** Those that must wait, and until when. */
  readonly later: ReadonlyMap<string, number>;
}

export class ThrottledTargets {
  readonly #pending: Pick<Pending, 'due' | 'nextDueMs'>;
  /** By a digest: a target may be long, and as a part of a batch's text it would keep all of that in memory. The oldest first. */
  readonly #known = new Map<string, Known>();
  /** The longest interval; at least a minute, because a new leader runs targets whose interval it has not seen. */
  #longestMs = 60_000;
  /** When the next one is due; null when none waits. */
  #dueAt: number | null = null;
  /** When that was queried; -Infinity: query again. */
  #queriedAt = -Infinity;

  constructor(pending: Pick<Pending, 'due' | 'nextDueMs'>) {
    this.#pending = pending;
  }

  /** The next due time is not known any more. */
  reset(): void {
    this.#queriedAt = -Infinity;
  }

  /**
   * Divides a batch; the shortest interval of a target's events counts. Throttled targets that run now count as run from this
   * moment on, so that a burst which fills several batches runs once. Call `failed` if Redis does not confirm them.
   */
  split(batch: readonly ClaimedTarget[]): Split {
    const shortest = new Map<string, number>();
    for (const { target, intervalMs } of batch)
      shortest.set(target, Math.min(shortest.get(target) ?? Infinity, intervalMs ?? 0));
    const later = new Map<string, number>();
    const throttled = new Set<string>();
    const now = performance.now();
    for (const { target, intervalMs } of batch) {
      if (intervalMs === null) continue;
      this.#longestMs = Math.max(this.#longestMs, intervalMs);
      const interval = shortest.get(target) ?? 0;
      const known = this.#known.get(digestOf(target));
      const overAt = known === undefined ? now : known.ranAt + Math.min(interval, INTERVAL_MOST_MS);
      if (known !== undefined && interval > 0 && (overAt > now || known.waitsUntil !== null)) {
        known.waitsUntil = Math.min(known.waitsUntil ?? Infinity, overAt);
        later.set(target, known.waitsUntil);
      } else throttled.add(target);
    }
    this.#ran(throttled, false);
    return { now: [...shortest.keys()].filter((target) => !later.has(target)), later };
  }

  /** These did not run after all. */
  failed(targets: Iterable<string>): void {
    for (const target of targets) this.#known.delete(digestOf(target));
  }

  /** These wait in `pending` now. */
  wait(later: Split['later']): void {
    for (const dueAt of later.values()) this.#lookAt(dueAt);
  }

  /** Milliseconds until the next one is due; null when none waits. */
  get dueInMs(): number | null {
    return this.#dueAt === null ? null : Math.max(0, this.#dueAt - performance.now());
  }

  async areDue(): Promise<boolean> {
    if (performance.now() - this.#queriedAt >= CACHED_MS) await this.#query();
    return this.dueInMs === 0;
  }

  /**
   * Runs targets that are due. Call `failed` if Redis does not confirm them.
   *
   * @param apply resolves when they have left `pending`, are there for another reason, or had a further event; to how many had none
   * @returns how many were run
   */
  async run(apply: (due: readonly PendingTarget[]) => Promise<number>): Promise<number> {
    const due = await this.#pending.due('throttled', RUN_TARGETS);
    const targets = due.map(({ target }) => target);
    this.#ran(targets, true);
    const done = due.length === 0 ? 0 : await apply(due);
    await this.#query();
    // Another session writes to these, or holds a lock on them: do not run them in a loop.
    if (this.dueInMs === 0 && (done < due.length || due.length === 0))
      this.#dueAt = performance.now() + CACHED_MS;
    return due.length;
  }

  async #query(): Promise<void> {
    // What begins to wait during the query may be missing in its answer.
    this.#dueAt = null;
    const inMs = await this.#pending.nextDueMs('throttled');
    this.#queriedAt = performance.now();
    if (inMs !== null) this.#lookAt(this.#queriedAt + inMs);
  }

  #lookAt(at: number): void {
    this.#dueAt = Math.min(this.#dueAt ?? Infinity, at);
  }

  /** Remembers that they run now, and forgets what ran long ago. @param waited their events in `pending` are served by this run */
  #ran(targets: Iterable<string>, waited: boolean): void {
    const ranAt = performance.now();
    for (const target of targets) {
      const digest = digestOf(target);
      const waitsUntil = waited ? null : (this.#known.get(digest)?.waitsUntil ?? null);
      this.#known.delete(digest);
      this.#known.set(digest, { ranAt, waitsUntil });
    }
    for (const [digest, known] of this.#known) {
      // Twice, so that none is forgotten between the end of its interval and the run that waits for that.
      if (known.ranAt + 2 * this.#longestMs > ranAt && this.#known.size <= REMEMBERED_MOST) break;
      this.#known.delete(digest);
    }
  }
}

function digestOf(target: string): string {
  return hash('sha256', target, 'base64');
}
