/**
 * The delivery loop: claim, apply, acknowledge, until the outbox is empty.
 *
 *     claim        read what was committed since the last claim, in batches; nothing is locked or marked
 *     apply        one DEL for the batch's distinct targets, confirmed by Redis (redis/apply.ts)
 *     acknowledge  delete the changes of the transactions that were read; what Redis has not confirmed moves into `pending` in the
 *                  same statement
 *
 * Promise: a change leaves the outbox only after Redis confirmed a DEL for each of its targets that was sent after the change's
 * commit, or in the statement that puts the others into `pending` (db/pending.ts), where the same promise holds.
 *
 * - Every step may be repeated, by this worker or another one. A repetition costs a cache miss.
 * - The position says what has been claimed, and lives only here. Any doubt resets it: a failed batch, a new connection (it
 *   may lead to another server), a new term. The next claim then returns everything that is not acknowledged.
 * - Under load two batches are in flight while a third is claimed. Acknowledgements keep the order of the batches.
 * - Throttled targets that are due run while no batch is in flight: what is acknowledged during a run would merge into its
 *   targets, and they would run twice.
 * - The loop never waits for the queue, which works on the rest of what is pending.
 *
 * Why all of this holds: docs/protocol.md#delivery and docs/protocol.md#throttled-targets.
 */

import { explainDatabaseError } from '../db/errors.ts';
import type { Batch, Outbox } from '../db/outbox.ts';
import type { ClaimedTarget } from '../db/outbox-batch.ts';
import type { Pending, PendingTarget } from '../db/pending.ts';
import type { Unconfirmed } from '../db/pending-put.ts';
import { WorkerError } from '../lib/errors.ts';
import { backoffMs } from '../lib/waiting.ts';
import type { PendingWork } from '../queue/pending-work.ts';
import { type Applied, type ApplyParts, apply } from '../redis/apply.ts';
import type { DeliveryOutcome } from '../wakeup/sleep-protocol.ts';
import type { DeliveryHealth } from './health.ts';
import { ThrottledTargets } from './throttled-targets.ts';
import { earliestMs, throttled, unconfirmed, withSecond } from './unconfirmed.ts';

/** Changes in one claim. Large enough to amortise the round trips, small enough for one DEL of 2 or 3 keys a target. */
export const CLAIM_CHANGES = 2_000;

/** One batch is being acknowledged and one is being applied, while a third is claimed. */
const MAX_IN_FLIGHT = 2;

const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 5_000;

export type ConfirmedTarget = Pick<ClaimedTarget, 'target' | 'watchId' | 'op' | 'ageMs'>;

interface AppliedBatch {
  /** One for each target and watch. */
  readonly targets: readonly ConfirmedTarget[];
  /** How many rows were changed. */
  readonly changes: number;
  /** When the claim returned, by `performance.now()`. */
  readonly claimedAt: number;
}

/** What Redis has confirmed of a batch. */
export interface ConfirmedBatch extends AppliedBatch {
  readonly distinctTargets: number;
  /** Deleted. */
  readonly keys: number;
  /** Milliseconds from sending the DEL to Redis's confirmation. */
  readonly applyMs: number;
}

type Claim = Batch & { readonly claimedAt: number };

export interface DeliveryLoopParts extends ApplyParts {
  readonly outbox: Pick<Outbox, 'claim' | 'acknowledge'>;
  readonly pending: Pick<Pending, 'due' | 'nextDueMs' | 'put' | 'confirm'>;
  readonly pendingWork: Pick<PendingWork, 'request'>;
  /** Milliseconds by which read replicas lag: each delete is repeated after them. 0: there are none. */
  readonly replicaLagMs: number;
  readonly health: DeliveryHealth;
  readonly databaseUrl: string;
  onConfirmed(batch: ConfirmedBatch): void;
  /** A target was widened because one of its values could not be rendered. */
  onWidened(target: ClaimedTarget): void;
  /** So many rows have left the outbox. */
  onAcknowledged(rows: number): void;
  onError(error: WorkerError): void;
  /** The queue continues with some of these targets. For the log only. */
  onPassedToQueue(applied: Applied): void;
}

export class DeliveryLoop {
  readonly #parts: DeliveryLoopParts;
  readonly #limit: number;
  readonly #throttled: ThrottledTargets;
  #position: string | null = null;
  /** Counts the resets: a claim that began before one is dropped. */
  #resets = 0;
  #failures = 0;
  #abandoned = false;

  constructor(parts: DeliveryLoopParts, limit: number = CLAIM_CHANGES) {
    this.#parts = parts;
    this.#limit = limit;
    this.#throttled = new ThrottledTargets(parts.pending);
  }

  /** The next claim returns everything that is not acknowledged. */
  reset(): void {
    this.#position = null;
    this.#resets++;
    this.#throttled.reset();
  }

  /** Starts no further batch. `untilEmpty` returns after those in flight. */
  abandon(): void {
    this.#abandoned = true;
  }

  /** Applies everything committed, unless applying fails or `abandon` is called. Never rejects. */
  async untilEmpty(): Promise<DeliveryOutcome> {
    const progress = { rows: 0 };
    const inFlight: Promise<void>[] = [];
    let next: Promise<Claim | null> | null = null;
    try {
      for (let isEmpty = false; !isEmpty && !this.#abandoned; ) {
        next ??= handled(this.#claim());
        const batch: Claim | null = await next;
        if (this.#abandoned) break;
        isEmpty = batch?.drained === true;
        // The next claim runs while this batch is applied.
        next = isEmpty ? null : handled(this.#claim());
        if (batch === null) continue;
        if (batch.xids !== null) {
          if (inFlight.length >= MAX_IN_FLIGHT) await inFlight.shift();
          progress.rows += batch.changes;
          inFlight.push(handled(this.#applyAndAcknowledge(batch, batch.xids, inFlight.at(-1))));
        }
        // Under steady load the outbox may not be seen empty for long.
        if (!isEmpty) progress.rows += await this.#runDue(inFlight, 1);
      }
      while (inFlight.length > 0) await inFlight.shift();
      // Abandoned with a claimed batch that nobody applies: claim it again.
      if (next !== null) {
        await next;
        this.reset();
      }
      progress.rows += await this.#runDue(inFlight, Infinity);
      this.#failures = 0;
      if (!this.#abandoned) this.#parts.health.emptied();
      return { rows: progress.rows, retryInMs: null, dueInMs: this.#throttled.dueInMs };
    } catch (error) {
      // Leave no work running after a failed delivery.
      await Promise.allSettled([...inFlight, next]);
      return this.failed(error, progress.rows);
    }
  }

  /** The next batch; null when the position was reset during the claim. */
  async #claim(): Promise<Claim | null> {
    const resets = this.#resets;
    const batch = await this.#parts.outbox.claim(this.#position, this.#limit);
    if (resets !== this.#resets) return null;
    this.#position = batch.position;
    return { ...batch, claimedAt: performance.now() };
  }

  /** @param before the previous batch, which is acknowledged first: one connection claims, the other deletes */
  async #applyAndAcknowledge(batch: Claim, xids: string, before?: Promise<void>): Promise<void> {
    const { outbox, pendingWork, replicaLagMs, onWidened, onAcknowledged } = this.#parts;
    // Before anything is waited for: the next batch must know what runs in this one.
    const { now, later } = this.#throttled.split(batch.targets);
    let left = withSecond(await this.#apply(batch, now), now, replicaLagMs);
    for (const claimed of batch.targets) if (claimed.error !== null) onWidened(claimed);
    await before;
    let rows = await outbox.acknowledge(xids, [...left, ...throttled(later)]);
    if (rows !== null) this.#throttled.wait(later);
    else {
      // Another session has locked one of their rows: they run now instead.
      const early = [...later.keys()];
      left = [...left, ...withSecond(await this.#apply(batch, early), early, replicaLagMs)];
      rows = await outbox.acknowledge(xids, left);
    }
    pendingWork.request(earliestMs(left));
    onAcknowledged(rows ?? 0);
  }

  /** Applies some of the targets of a batch. @returns those that Redis has not confirmed */
  async #apply(batch: AppliedBatch, targets: readonly string[]): Promise<readonly Unconfirmed[]> {
    if (targets.length === 0) return [];
    const { health, onConfirmed, onPassedToQueue } = this.#parts;
    const startedAt = performance.now();
    let applied: Applied;
    try {
      applied = await apply(this.#parts, targets);
    } catch (error) {
      this.#throttled.failed(targets);
      throw error;
    }
    const applyMs = performance.now() - startedAt;
    const left = unconfirmed(applied);
    const done = new Set(targets);
    for (const { target } of left) done.delete(target);
    if (done.size > 0) {
      const confirmed = batch.targets.filter(({ target }) => done.has(target));
      health.confirmed(applyMs + confirmed.reduce((oldest, { ageMs }) => Math.max(oldest, ageMs), 0));
      onConfirmed({ ...batch, targets: confirmed, distinctTargets: done.size, keys: applied.keys, applyMs });
    }
    if (left.length > 0) onPassedToQueue(applied);
    return left;
  }

  /** Runs throttled targets whose interval is over. @param mostRuns of 1 000 targets each */
  async #runDue(inFlight: Promise<void>[], mostRuns: number): Promise<number> {
    let count = 0;
    for (let runs = 0; runs < mostRuns && !this.#abandoned && (await this.#throttled.areDue()); runs++) {
      while (inFlight.length > 0) await inFlight.shift();
      count += await this.#throttled.run((due) => this.#applyDue(due));
    }
    return count;
  }

  /** @returns how many are done here: confirmed, or the queue's from now on */
  async #applyDue(due: readonly PendingTarget[]): Promise<number> {
    const { pending, pendingWork, replicaLagMs } = this.#parts;
    const targets = due.map(({ target, ageMs }) => ({ target, watchId: null, op: 'throttled', ageMs }));
    const batch = { targets, changes: due.length, claimedAt: performance.now() };
    const names = due.map(({ target }) => target);
    const left = await this.#apply(batch, names);
    await pending.put(left);
    pendingWork.request(earliestMs(left));
    const passedOn = new Set(left.map(({ target }) => target));
    const confirmed = due.filter(({ target }) => !passedOn.has(target));
    const done = await pending.confirm(confirmed, replicaLagMs);
    if (replicaLagMs > 0 && done > 0) pendingWork.request(replicaLagMs);
    return left.length + done;
  }

  /** The outcome of a delivery that failed or could not begin: when to try again. */
  failed(error: unknown, rows = 0): DeliveryOutcome {
    const failure =
      error instanceof WorkerError ? error : explainDatabaseError(error, this.#parts.databaseUrl);
    this.reset();
    this.#parts.health.failed(failure);
    this.#parts.onError(failure);
    // Half of the delay is random, so that many workers do not retry in step.
    const maxMs = backoffMs(this.#failures++, FIRST_RETRY_MS, MAX_RETRY_MS);
    return { rows, retryInMs: maxMs * (0.5 + Math.random() / 2), dueInMs: null };
  }
}

/** Marks a promise as handled until it is awaited. */
function handled<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}
