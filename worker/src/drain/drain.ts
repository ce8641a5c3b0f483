/**
 * The drain: claim, apply, acknowledge, until the outbox is empty.
 *
 *     claim        read what was committed since the last claim, in pages; nothing is locked or marked
 *     apply        one DEL for the page's distinct targets, confirmed by Redis (apply/apply.ts)
 *     acknowledge  delete exactly the rows that were read; never before Redis has confirmed
 *
 * Invariant: a row leaves the outbox only after a DEL for its target was confirmed that was sent after the row's commit.
 * (Or, for a target that must rest, after it was moved into `deferred`, where the same holds of it: claim, due, settle.)
 *
 * Why it holds under every crash and every overlap: a claim sees committed rows only, so the DEL that follows it is sent
 * after their commit. A worker that dies between any two steps leaves rows that the next one applies again, which costs
 * a miss. Two workers at once (a leader that was stopped and wakes up, a stranger on the leadership lock) read the same
 * rows, delete the same keys and the same rows. A new row for a target that is being applied has a name of its own, so an
 * acknowledgement never swallows it.
 *
 * The position says what has been handed out; it lives here only. Whatever makes it doubtful forgets it, and the next
 * claim hands out everything that is not acknowledged: a page that failed, a new connection (it may lead to another
 * server after a failover), a new term of leadership. Forgetting is always right and costs repetition only.
 *
 * In the path from a ring to the confirmed DEL lie one SELECT and one DEL; the row's deletion comes after. Under load
 * the next page is claimed while Redis works on this one.
 */
import { type ApplyParts, apply } from '../apply/apply.ts';
import type { UpstashFailure } from '../apply/upstash-errors.ts';
import { explainDatabaseError } from '../database/database-errors.ts';
import type { DrainOutcome } from '../doorbell/doorbell.ts';
import { WorkerError } from '../errors.ts';
import type { Flow } from './flow.ts';
import type { DueTarget, Outbox, OutboxRow, Page } from './outbox.ts';

/** Rows in one claim. Enough to keep the round trips' share small, few enough for 30 MB with two pages in hand. */
export const CLAIM_ROWS = 2_000;

/** While one page is being acknowledged, the next is on its way to Redis, and a third is claimed. */
const PAGES_IN_HAND = 2;

/** Deferred targets in one go. */
const DUE_TARGETS = 1_000;

const RETRY_FIRST_MS = 100;
const RETRY_MOST_MS = 5_000;

/** One page, as confirmed by Redis. */
export interface ConfirmedBatch {
  readonly rows: readonly Pick<OutboxRow, 'target' | 'watchId' | 'op' | 'ageMs'>[];
  /** Distinct targets, keys deleted. */
  readonly targets: number;
  readonly keys: number;
  /** Milliseconds from the claim's answer to Redis's confirmation. */
  readonly applyMs: number;
}

export interface DrainParts extends ApplyParts {
  readonly outbox: Pick<Outbox, 'claim' | 'acknowledge' | 'nextDue' | 'due' | 'settle'>;
  readonly flow: Flow;
  readonly databaseUrl: string;
  onConfirmed(batch: ConfirmedBatch): void;
  /** Rows whose target was widened because a value could not be rendered. */
  onWidened(row: OutboxRow): void;
  onTrouble(error: WorkerError): void;
  /** Takes over targets that Redis has confirmed but that must be deleted once more; resolves when that is durable. */
  confirmedOnce(targets: readonly string[]): Promise<void>;
  /** Takes over a target that Redis refuses, durably; its rows are acknowledged when this resolves. */
  setAside(target: string, failure: UpstashFailure): Promise<void>;
  /** Takes over a pattern that no fence covers, durably. */
  sweep(target: string): Promise<void>;
}

export class Drain {
  readonly #parts: DrainParts;
  readonly #limit: number;
  #position: string | null = null;
  /** Counts what made the position doubtful. */
  #doubts = 0;
  /** When the next deferred target is due, by this process's clock; null when none waits. */
  #dueAt: number | null = 0;
  #failures = 0;
  #abandoned = false;

  constructor(parts: DrainParts, limit: number = CLAIM_ROWS) {
    this.#parts = parts;
    this.#limit = limit;
  }

  /** The next claim hands out everything that is not acknowledged. */
  forget(): void {
    this.#position = null;
    this.#doubts++;
    this.#dueAt = 0;
  }

  /** No further page is begun; `untilEmpty` returns after the one in hand. */
  abandon(): void {
    this.#abandoned = true;
  }

  /** Drains until everything committed is applied, or applying fails, or `abandon`. Never rejects. */
  async untilEmpty(): Promise<DrainOutcome> {
    const progress = { rows: 0 };
    const working: Promise<void>[] = [];
    let told = false;
    try {
      for (let drained = false; !drained && !this.#abandoned; ) {
        const page = await this.#claim();
        if (page === null) continue;
        if (working.length >= PAGES_IN_HAND) await working.shift();
        progress.rows += page.rows.length;
        drained = page.drained;
        // The last page's acknowledgement, after the last claim, says when a deferred target is due.
        told = page.rows.length > 0;
        if (!told) continue;
        const work = this.#applyAndAcknowledge(page.rows);
        // Handled when it is awaited; until then a failure must not count as unhandled.
        work.catch(() => undefined);
        working.push(work);
      }
      while (working.length > 0) await working.shift();
      progress.rows += await this.#runDue(told);
      this.#failures = 0;
      if (!this.#abandoned) this.#parts.flow.drained();
      return { rows: progress.rows, retryInMs: null, dueInMs: this.#dueInMs() };
    } catch (error) {
      // No work goes on unseen behind a failed drain.
      await Promise.allSettled(working);
      return this.failed(error, progress.rows);
    }
  }

  /** The next page; null when the position turned doubtful while it was asked for. */
  async #claim(): Promise<Page | null> {
    const doubts = this.#doubts;
    const page = await this.#parts.outbox.claim(this.#position, this.#limit);
    if (doubts !== this.#doubts) return null;
    this.#position = page.position;
    return page;
  }

  async #applyAndAcknowledge(rows: readonly OutboxRow[]): Promise<void> {
    const { outbox, onWidened, setAside, sweep } = this.#parts;
    const targets = distinctTargets(rows);
    const { refused, sweeps, confirmed, others } = await this.#applyRows(rows, targets);
    for (const row of rows) if (row.error !== null) onWidened(row);
    this.#due(await outbox.acknowledge(confirmed));
    if (others.length === 0) return;

    // These come last, so that they never hold up what Redis has taken.
    for (const [target, failure] of refused) await setAside(target, failure);
    for (const target of sweeps) await sweep(target);
    this.#due(await outbox.acknowledge(others));
  }

  /** Applies the rows' targets and tells what Redis confirmed; `others` are the rows it did not: refused, or for a sweep. */
  async #applyRows<Row extends ConfirmedBatch['rows'][number]>(
    rows: readonly Row[],
    targets: readonly string[],
  ) {
    const { flow, onConfirmed, confirmedOnce } = this.#parts;
    const claimedAt = performance.now();
    const { refused, sweeps, keys } = await apply(this.#parts, targets);
    const applyMs = performance.now() - claimedAt;
    const unconfirmed = new Set([...refused.keys(), ...sweeps]);
    const confirmed = unconfirmed.size === 0 ? rows : rows.filter((row) => !unconfirmed.has(row.target));
    const others = unconfirmed.size === 0 ? [] : rows.filter((row) => unconfirmed.has(row.target));
    if (confirmed.length > 0) {
      flow.confirmed(oldest(confirmed) + applyMs);
      onConfirmed({ rows: confirmed, targets: targets.length - unconfirmed.size, keys, applyMs });
      await confirmedOnce(
        unconfirmed.size === 0 ? targets : targets.filter((target) => !unconfirmed.has(target)),
      );
    }
    return { refused, sweeps, confirmed, others };
  }

  /**
   * Applies the deferred targets whose interval is over.
   *
   * @param told whether `#dueAt` is from after the last claim, which may have set targets aside without a word
   */
  async #runDue(told: boolean): Promise<number> {
    const { outbox, setAside, sweep } = this.#parts;
    let count = 0;
    if (!told) this.#due(await outbox.nextDue());
    while (!this.#abandoned && this.#dueAt !== null && this.#dueAt <= performance.now()) {
      const due = await outbox.due(DUE_TARGETS);
      this.#due(await outbox.nextDue());
      if (due.length === 0) break;
      const rows = due.map(asUpdate);
      const targets = due.map((row) => row.target);
      const { refused, sweeps } = await this.#applyRows(rows, targets);
      for (const [target, failure] of refused) await setAside(target, failure);
      for (const target of sweeps) await sweep(target);
      await outbox.settle(targets);
      count += due.length;
    }
    return count;
  }

  #due(inMs: number | null): void {
    this.#dueAt = inMs === null ? null : performance.now() + inMs;
  }

  #dueInMs(): number | null {
    return this.#dueAt === null ? null : Math.max(0, this.#dueAt - performance.now());
  }

  /** What a drain that failed, or could not begin, means for the doorbell: when to try again. */
  failed(error: unknown, rows = 0): DrainOutcome {
    const failure =
      error instanceof WorkerError ? error : explainDatabaseError(error, this.#parts.databaseUrl);
    this.forget();
    this.#parts.flow.failed(failure);
    this.#parts.onTrouble(failure);
    // Spread over half the time, so that many workers do not come back in step.
    const most = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** Math.min(this.#failures++, 10));
    return { rows, retryInMs: most * (0.5 + Math.random() / 2), dueInMs: null };
  }
}

function asUpdate(due: DueTarget): ConfirmedBatch['rows'][number] {
  return { target: due.target, watchId: due.watchId, op: 'u', ageMs: due.ageMs };
}

function distinctTargets(rows: readonly OutboxRow[]): string[] {
  if (rows.length === 1 && rows[0] !== undefined) return [rows[0].target];
  return [...new Set(rows.map((row) => row.target))];
}

function oldest(rows: readonly Pick<OutboxRow, 'ageMs'>[]): number {
  let most = 0;
  for (const row of rows) if (row.ageMs > most) most = row.ageMs;
  return most;
}
