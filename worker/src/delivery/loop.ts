/**
 * The delivery loop: claim, apply, acknowledge, until the outbox is empty.
 *
 *     claim        read what was committed since the last claim, in batches; nothing is locked or marked
 *     apply        one DEL for the batch's distinct targets, confirmed by Redis (redis/apply.ts)
 *     acknowledge  delete exactly the rows that were read; what Redis has not confirmed moves into `pending` in the same statement
 *
 * Promise: a row leaves the outbox only after Redis confirmed a DEL for its target that was sent after the row's commit, or
 * into `pending` (db/pending.ts) or `deferred`, where the same promise holds.
 *
 * - Every step may be repeated, by this worker or another one. A repetition costs a cache miss.
 * - The position says what has been claimed, and lives only here. Any doubt resets it: a failed batch, a new connection (it
 *   may lead to another server), a new term. The next claim then returns everything that is not acknowledged.
 * - Under load two batches are in flight while a third is claimed. Acknowledgements keep the order of the batches.
 * - Batches with throttled targets go one by one: an acknowledgement starts the interval, and only then can the next batch
 *   know which of its targets must wait.
 * - The loop never waits for the queue, which works on what is pending.
 *
 * Why all of this holds: docs/protocol.md#delivery and docs/protocol.md#throttled-targets.
 */

import { explainDatabaseError } from '../db/errors.ts';
import type { Batch, DueTarget, Outbox } from '../db/outbox.ts';
import type { BatchRows, ClaimedRow, Rows } from '../db/outbox-batch.ts';
import { FIRST_PAUSE_MS, type Unconfirmed } from '../db/pending.ts';
import { WorkerError } from '../lib/errors.ts';
import { backoffMs } from '../lib/waiting.ts';
import { type PendingWork, UNDECIDED_PAUSE_MS } from '../queue/pending-work.ts';
import { type Applied, type ApplyParts, apply } from '../redis/apply.ts';
import type { DeliveryOutcome } from '../wakeup/sleep-protocol.ts';
import type { DeliveryHealth } from './health.ts';
import { ThrottledTargets } from './throttled-targets.ts';

/** Rows in one claim. Large enough to amortise the round trips, small enough for one DEL of 2 or 3 keys a row. */
export const CLAIM_ROWS = 2_000;

/** One batch is being acknowledged and one is being applied, while a third is claimed. */
const MAX_IN_FLIGHT = 2;

const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 5_000;

export type ConfirmedRow = Pick<ClaimedRow, 'target' | 'watchId' | 'op' | 'ageMs'>;

/** One batch, as confirmed by Redis. */
export interface ConfirmedBatch {
  readonly rows: Pick<Rows<ConfirmedRow>, 'length' | 'at'>;
  /** Distinct targets, keys deleted. */
  readonly targets: number;
  readonly keys: number;
  /** When the claim returned, by `performance.now()`. */
  readonly claimedAt: number;
  /** Milliseconds from sending the DEL to Redis's confirmation. */
  readonly applyMs: number;
}

type Claim = Batch & Pick<ConfirmedBatch, 'claimedAt'>;

export interface DeliveryLoopParts extends ApplyParts {
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
  readonly pendingWork: Pick<PendingWork, 'request'>;
  /** Milliseconds by which read replicas lag: each delete is repeated after them. 0: there are none. */
  readonly replicaLagMs: number;
  readonly health: DeliveryHealth;
  readonly databaseUrl: string;
  onConfirmed(batch: ConfirmedBatch): void;
  /** A target was widened because one of its values could not be rendered. */
  onWidened(row: ClaimedRow): void;
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

  constructor(parts: DeliveryLoopParts, limit: number = CLAIM_ROWS) {
    this.#parts = parts;
    this.#limit = limit;
    this.#throttled = new ThrottledTargets(parts.outbox);
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
        if (batch.throttled) while (inFlight.length > 0) await inFlight.shift();
        if (batch.throttled) this.#throttled.changed();
        const rows = batch.throttled ? await this.#parts.outbox.moveThrottled(batch.rows) : batch.rows;
        if (rows.length > 0) {
          if (inFlight.length >= MAX_IN_FLIGHT) await inFlight.shift();
          progress.rows += rows.length;
          inFlight.push(handled(this.#applyAndAcknowledge({ ...batch, rows }, inFlight.at(-1))));
        }
        // Under steady load the outbox may not be seen empty for long.
        if (!isEmpty) progress.rows += await this.#runDue(1);
      }
      while (inFlight.length > 0) await inFlight.shift();
      // Abandoned with a claimed batch that nobody applies: claim it again.
      if (next !== null) {
        await next;
        this.reset();
      }
      progress.rows += await this.#runDue(Infinity);
      if (!this.#abandoned) await this.#throttled.cleanUpIfDue();
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
  async #applyAndAcknowledge(batch: Claim, before?: Promise<void>): Promise<void> {
    const { rows, throttled, claimedAt } = batch;
    const { outbox, pendingWork, replicaLagMs, onWidened } = this.#parts;
    const targets = distinctTargets(rows);
    const { applied } = await this.#applyRows(rows, targets, rows.oldestMs, claimedAt);
    if (rows.hasErrors) {
      for (let index = 0; index < rows.length; index++) {
        const row = rows.at(index);
        if (row !== undefined && row.error !== null) onWidened(row);
      }
    }
    await before;
    const unconfirmed = stillToDo(applied, targets, replicaLagMs);
    await outbox.acknowledge(rows, throttled, unconfirmed);
    if (unconfirmed.length > 0)
      pendingWork.request(unconfirmed.reduce((least, { waitMs }) => Math.min(least, waitMs), Infinity));
  }

  /** Applies the rows' targets. `unconfirmed` are those that Redis did not confirm. */
  async #applyRows(
    rows: Rows<ConfirmedRow>,
    targets: readonly string[],
    oldestMs: number,
    claimedAt: number,
  ) {
    const { health, onConfirmed, onPassedToQueue } = this.#parts;
    const startedAt = performance.now();
    const applied = await apply(this.#parts, targets);
    const applyMs = performance.now() - startedAt;
    const unconfirmed = new Set([...applied.refused.keys(), ...applied.undecided, ...applied.sweeps]);
    const isWhole = unconfirmed.size === 0;
    const confirmed = isWhole ? rows : rows.filter((row) => !unconfirmed.has(row.target));
    if (confirmed.length > 0) {
      health.confirmed(oldestMs + applyMs);
      onConfirmed({
        rows: confirmed,
        targets: targets.length - unconfirmed.size,
        keys: applied.keys,
        claimedAt,
        applyMs,
      });
    }
    if (!isWhole) onPassedToQueue(applied);
    return { applied, unconfirmed };
  }

  /** Applies throttled targets whose interval is over. @param maxBatches of 1 000 targets each */
  async #runDue(maxBatches: number): Promise<number> {
    const { outbox, replicaLagMs } = this.#parts;
    if (this.#abandoned) return 0;
    return await this.#throttled.run(maxBatches, async (due) => {
      const claimedAt = performance.now();
      const targets = due.map((row) => row.target);
      const oldestMs = due.reduce((oldest, row) => Math.max(oldest, row.ageMs), 0);
      const { unconfirmed } = await this.#applyRows(due.map(asUpdate), targets, oldestMs, claimedAt);
      await outbox.invalidateAll(replicaLagMs === 0 ? [...unconfirmed] : targets);
      return !this.#abandoned;
    });
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

function asUpdate(due: DueTarget): ConfirmedRow {
  return { target: due.target, watchId: due.watchId, op: 'u', ageMs: due.ageMs };
}

/** What is left to do for the targets of a batch, each once. @param replicaLagMs 0: a confirmed one is done */
function stillToDo(
  { refused, undecided, sweeps }: Applied,
  targets: readonly string[],
  replicaLagMs: number,
): readonly Unconfirmed[] {
  const found = new Map<string, Unconfirmed>();
  // A second epoch covers all others.
  const confirmed = targets.includes('*') ? ['*'] : targets;
  if (replicaLagMs > 0)
    for (const target of confirmed) found.set(target, { target, why: 'second delete', waitMs: replicaLagMs });
  for (const target of undecided) found.set(target, { target, why: 'refused', waitMs: UNDECIDED_PAUSE_MS });
  for (const [target, { code }] of refused)
    found.set(target, { target, why: 'refused', waitMs: FIRST_PAUSE_MS, code });
  for (const target of sweeps) found.set(target, { target, why: 'sweep', waitMs: 0 });
  return [...found.values()];
}

/** Marks a promise as handled until it is awaited. */
function handled<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}

function distinctTargets({ targets }: BatchRows): readonly string[] {
  if (targets.length === 1) return targets;
  const distinct = new Set(targets);
  return distinct.size === targets.length ? targets : [...distinct];
}
