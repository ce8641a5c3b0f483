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
 * In the path from a ring to the confirmed DEL lie one SELECT and one DEL; the row's deletion comes after.
 *
 * Under load the steps of several pages overlap: the next page is claimed while this one is applied and the one before is
 * acknowledged. That is safe because a claim goes by the position alone, which neither a DEL nor an acknowledgement
 * changes (the protocol above claim() in …_fencepost_drain.sql): each page holds what is invisible in A and lies after p,
 * whatever has become of the pages before. A row may be in two pages in hand; it is then applied and deleted twice, and
 * the second time nothing is there. If any step fails, the pages in hand are waited for, what was claimed beyond
 * them is dropped, and the position is forgotten: every row of theirs that is not acknowledged comes again. `untilEmpty`
 * says "empty" only after all pages in hand are acknowledged, by a claim that began after the flag was cleared.
 *
 * Pages that name targets with a min_interval take their turn one by one: an acknowledgement is what makes a target rest,
 * and only then may the next page be asked which of its targets must rest. Otherwise a burst that fills several pages
 * would be run once for each of them, instead of once at once and once after the interval. (Where loaders lag behind on
 * replicas the acknowledgement comes with the second delete, and a burst may be run once for each page.)
 *
 * What needs the queue (sweeps, refused targets, second deletes) is handed over beside the drain (queue/hand-over.ts),
 * whose rows stay in the outbox, remembered, until the queue has taken them. The drain never waits for the queue.
 * A deferred target has no row to stay, so it becomes one again, written by hand, before it is settled.
 */

import { explainDatabaseError } from '../db/errors.ts';
import type { Batch, DueTarget, Outbox } from '../db/outbox.ts';
import type { BatchRows, ClaimedRow, Rows } from '../db/outbox-batch.ts';
import { WorkerError } from '../lib/errors.ts';
import type { QueueBuffer } from '../queue/buffer.ts';
import { type Applied, type ApplyParts, apply } from '../redis/apply.ts';
import type { DrainOutcome } from '../wakeup/sleep-protocol.ts';
import type { Flow } from './health.ts';
import { jobsFor, queueRequest, secondDelete } from './queue-requests.ts';
import { Deferred } from './throttled-targets.ts';

/** Rows in one claim. Enough to keep the round trips' share small, few enough for one DEL of two or three keys each. */
export const CLAIM_ROWS = 2_000;

/** While one page is being acknowledged, the next is on its way to Redis, and a third is claimed. */
const PAGES_IN_HAND = 2;

const RETRY_FIRST_MS = 100;
const RETRY_MOST_MS = 5_000;

export type ConfirmedRow = Pick<ClaimedRow, 'target' | 'watchId' | 'op' | 'ageMs'>;

/** One page, as confirmed by Redis. */
export interface ConfirmedBatch {
  readonly rows: Pick<Rows<ConfirmedRow>, 'length' | 'at'>;
  /** Distinct targets, keys deleted. */
  readonly targets: number;
  readonly keys: number;
  /** Milliseconds from the claim's answer to Redis's confirmation. */
  readonly applyMs: number;
}

export interface DrainParts extends ApplyParts {
  readonly outbox: Pick<
    Outbox,
    | 'claim'
    | 'moveThrottled'
    | 'acknowledge'
    | 'nextDue'
    | 'due'
    | 'settle'
    | 'forgetThrottled'
    | 'invalidateAll'
  >;
  readonly queueBuffer: Pick<QueueBuffer, 'take' | 'room' | 'forget'>;
  /** Milliseconds by which loaders on replicas lag: each delete is repeated after them. 0: none does. */
  readonly replicaLagMs: number;
  readonly flow: Flow;
  readonly databaseUrl: string;
  onConfirmed(batch: ConfirmedBatch): void;
  /** Rows whose target was widened because a value could not be rendered. */
  onWidened(row: ClaimedRow): void;
  onTrouble(error: WorkerError): void;
  /** Targets that the queue goes on with; said to people, nothing more. */
  onSetAside(applied: Applied): void;
}

export class Drain {
  readonly #parts: DrainParts;
  readonly #limit: number;
  readonly #deferred: Deferred;
  #position: string | null = null;
  /** Counts what made the position doubtful. */
  #doubts = 0;
  #failures = 0;
  #abandoned = false;

  constructor(parts: DrainParts, limit: number = CLAIM_ROWS) {
    this.#parts = parts;
    this.#limit = limit;
    this.#deferred = new Deferred(parts.outbox);
  }

  /** The next claim hands out everything that is not acknowledged. */
  forget(): void {
    this.#position = null;
    this.#doubts++;
    this.#deferred.forget();
    this.#parts.queueBuffer.forget();
  }

  /** No further page is begun; `untilEmpty` returns after the one in hand. */
  abandon(): void {
    this.#abandoned = true;
  }

  /** Drains until everything committed is applied, or applying fails, or `abandon`. Never rejects. */
  async untilEmpty(): Promise<DrainOutcome> {
    const progress = { rows: 0 };
    const working: Promise<void>[] = [];
    let next: Promise<Batch | null> | null = null;
    try {
      for (let drained = false; !drained && !this.#abandoned; ) {
        next ??= handled(this.#claim());
        const page: Batch | null = await next;
        if (this.#abandoned) break;
        drained = page?.drained === true;
        // On its way while this page is applied.
        next = drained ? null : handled(this.#claim());
        if (page === null) continue;
        if (page.throttled) while (working.length > 0) await working.shift();
        if (page.throttled) this.#deferred.changed();
        const rows = page.throttled ? await this.#parts.outbox.moveThrottled(page.rows) : page.rows;
        if (rows.length > 0) {
          if (working.length >= PAGES_IN_HAND) await working.shift();
          progress.rows += rows.length;
          working.push(handled(this.#applyAndAcknowledge(rows, page.throttled, working.at(-1))));
        }
        // Under steady load the outbox may not be seen empty for long.
        if (!drained) progress.rows += await this.#runDue(1);
      }
      while (working.length > 0) await working.shift();
      // Abandoned with a page that nobody applies: it counts as never handed out.
      if (next !== null) {
        await next;
        this.forget();
      }
      progress.rows += await this.#runDue(Infinity);
      if (!this.#abandoned) await this.#deferred.forgetThrottled();
      this.#failures = 0;
      if (!this.#abandoned) this.#parts.flow.drained();
      return { rows: progress.rows, retryInMs: null, dueInMs: this.#deferred.dueInMs };
    } catch (error) {
      // No work goes on unseen behind a failed drain.
      await Promise.allSettled([...working, next]);
      return this.failed(error, progress.rows);
    }
  }

  /** The next page; null when the position turned doubtful while it was asked for. */
  async #claim(): Promise<Batch | null> {
    const doubts = this.#doubts;
    const page = await this.#parts.outbox.claim(this.#position, this.#limit);
    if (doubts !== this.#doubts) return null;
    this.#position = page.position;
    return page;
  }

  /** @param before the work on the page before: acknowledged in turn, one claims and one deletes, on two connections */
  async #applyAndAcknowledge(rows: BatchRows, rests: boolean, before?: Promise<void>): Promise<void> {
    const { outbox, queueBuffer, replicaLagMs, onWidened } = this.#parts;
    const targets = distinctTargets(rows);
    const { applied, unconfirmed } = await this.#applyRows(rows, targets, rows.oldestMs);
    if (rows.hasErrors) {
      for (let index = 0; index < rows.length; index++) {
        const row = rows.at(index);
        if (row !== undefined && row.error !== null) onWidened(row);
      }
    }
    await before;
    const isWhole = unconfirmed.size === 0;
    const confirmed = isWhole ? rows : rows.filter((row) => !unconfirmed.has(row.target));
    if (replicaLagMs === 0) await outbox.acknowledge(confirmed, rests);
    else queueBuffer.take(queueRequest(confirmed, rests, [secondDelete(targets, unconfirmed, replicaLagMs)]));
    if (!isWhole) {
      const others = rows.filter((row) => unconfirmed.has(row.target));
      queueBuffer.take(queueRequest(others, rests, jobsFor(applied)));
    }
    await queueBuffer.room();
  }

  /** Applies the rows' targets and tells what Redis confirmed; `unconfirmed` are those it did not: for the queue. */
  async #applyRows(rows: Rows<ConfirmedRow>, targets: readonly string[], oldestMs: number) {
    const { flow, onConfirmed, onSetAside } = this.#parts;
    const claimedAt = performance.now();
    const applied = await apply(this.#parts, targets);
    const applyMs = performance.now() - claimedAt;
    const unconfirmed = new Set([...applied.refused.keys(), ...applied.undecided, ...applied.sweeps]);
    const isWhole = unconfirmed.size === 0;
    const confirmed = isWhole ? rows : rows.filter((row) => !unconfirmed.has(row.target));
    if (confirmed.length > 0) {
      flow.confirmed(oldestMs + applyMs);
      onConfirmed({
        rows: confirmed,
        targets: targets.length - unconfirmed.size,
        keys: applied.keys,
        applyMs,
      });
    }
    if (!isWhole) onSetAside(applied);
    return { applied, unconfirmed };
  }

  /** Applies deferred targets whose interval is over, at most so many times a thousand. */
  async #runDue(most: number): Promise<number> {
    const { outbox, replicaLagMs } = this.#parts;
    if (this.#abandoned) return 0;
    return await this.#deferred.run(most, async (due) => {
      const targets = due.map((row) => row.target);
      const oldestMs = due.reduce((oldest, row) => Math.max(oldest, row.ageMs), 0);
      const { unconfirmed } = await this.#applyRows(due.map(asUpdate), targets, oldestMs);
      await outbox.invalidateAll(replicaLagMs === 0 ? [...unconfirmed] : targets);
      return !this.#abandoned;
    });
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

function asUpdate(due: DueTarget): ConfirmedRow {
  return { target: due.target, watchId: due.watchId, op: 'u', ageMs: due.ageMs };
}

/** A failure that is handled when the promise is awaited; until then it must not count as unhandled. */
function handled<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}

function distinctTargets({ targets }: BatchRows): readonly string[] {
  if (targets.length === 1) return targets;
  const distinct = new Set(targets);
  return distinct.size === targets.length ? targets : [...distinct];
}
