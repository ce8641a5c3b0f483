/**
 * The drain: claim, apply, acknowledge, until the outbox is empty.
 *
 *     claim        read the oldest rows, in batches; nothing is locked or marked
 *     apply        one DEL for the batch's distinct targets, confirmed by Redis (apply/apply.ts)
 *     acknowledge  delete exactly the rows that were read, by id; never before Redis has confirmed
 *
 * Invariant: a row leaves the outbox only after a DEL for its target was confirmed that was sent after the row's commit.
 *
 * Why it holds under every crash and every overlap: a claim sees committed rows only, so the DEL that follows it is sent
 * after their commit. A worker that dies between any two steps leaves rows that the next one applies again, which costs
 * a miss. Two workers at once (a leader that was stopped and wakes up, a stranger on the leadership lock) read the same
 * rows, delete the same keys and delete the same ids. A new row for a target that is being applied has an id of its own,
 * so an acknowledgement never swallows it.
 *
 * A pass goes through the outbox by id while the next batch is read ahead of the one that Redis works on. The end of a
 * pass proves nothing (ids are not in commit order); only a claim from the beginning that finds nothing means empty.
 *
 * In the path from a ring to the confirmed DEL lie one SELECT and one DEL; the row's deletion comes after.
 */
import { type ApplyParts, apply } from '../apply/apply.ts';
import type { UpstashFailure } from '../apply/upstash-errors.ts';
import { explainDatabaseError } from '../database/database-errors.ts';
import type { DrainOutcome } from '../doorbell/doorbell.ts';
import { WorkerError } from '../errors.ts';
import type { Flow } from './flow.ts';
import type { Outbox, OutboxRow } from './outbox.ts';

/** Rows in one claim. Enough to keep the round trips' share small, few enough for 30 MB with three batches in hand. */
export const CLAIM_ROWS = 5_000;

const RETRY_FIRST_MS = 100;
const RETRY_MOST_MS = 5_000;

/** One batch, as confirmed by Redis. */
export interface ConfirmedBatch {
  readonly rows: readonly OutboxRow[];
  /** Distinct targets, keys deleted. */
  readonly targets: number;
  readonly keys: number;
  /** Milliseconds from the claim's answer to Redis's confirmation. */
  readonly applyMs: number;
}

export interface DrainParts extends ApplyParts {
  readonly outbox: Pick<Outbox, 'claim' | 'acknowledge'>;
  readonly flow: Flow;
  readonly databaseUrl: string;
  onConfirmed(batch: ConfirmedBatch): void;
  onTrouble(error: WorkerError): void;
  /** Takes over a target that Redis refuses, durably; its rows are acknowledged when this resolves. */
  setAside(target: string, failure: UpstashFailure): Promise<void>;
  /** Takes over a pattern that no fence covers, durably. */
  sweep(target: string): Promise<void>;
}

export class Drain {
  readonly #parts: DrainParts;
  readonly #limit: number;
  #failures = 0;
  #abandoned = false;

  constructor(parts: DrainParts, limit: number = CLAIM_ROWS) {
    this.#parts = parts;
    this.#limit = limit;
  }

  /** No further batch is begun; `untilEmpty` returns after the one in hand. */
  abandon(): void {
    this.#abandoned = true;
  }

  /** Drains until the outbox is empty, or applying fails, or `abandon`. Never rejects. */
  async untilEmpty(): Promise<DrainOutcome> {
    let rows = 0;
    try {
      while (!this.#abandoned) {
        const batch = await this.#parts.outbox.claim('0', this.#limit);
        if (batch.length === 0) {
          this.#failures = 0;
          this.#parts.flow.drained();
          break;
        }
        rows += await this.#pass(batch);
        this.#failures = 0;
      }
      return { rows, retryInMs: null, dueInMs: null };
    } catch (error) {
      const failure =
        error instanceof WorkerError ? error : explainDatabaseError(error, this.#parts.databaseUrl);
      this.#parts.flow.failed(failure);
      this.#parts.onTrouble(failure);
      // Spread over half the time, so that many workers do not come back in step.
      const most = Math.min(RETRY_MOST_MS, RETRY_FIRST_MS * 2 ** Math.min(this.#failures++, 10));
      return { rows, retryInMs: most * (0.5 + Math.random() / 2), dueInMs: null };
    }
  }

  /** From this batch to the end of the outbox; gives the number of rows. */
  async #pass(first: OutboxRow[]): Promise<number> {
    let rows = 0;
    let batch = first;
    while (batch.length > 0) {
      rows += batch.length;
      const work = this.#applyAndAcknowledge(batch);
      const last = batch.at(-1);
      if (batch.length < this.#limit || last === undefined || this.#abandoned) {
        await work;
        break;
      }
      // Both are awaited whatever happens to either: no work goes on unseen behind a failed pass.
      const [ahead, done] = await Promise.allSettled([this.#parts.outbox.claim(last.id, this.#limit), work]);
      if (done.status === 'rejected') throw done.reason;
      if (ahead.status === 'rejected') throw ahead.reason;
      batch = ahead.value;
    }
    return rows;
  }

  async #applyAndAcknowledge(rows: readonly OutboxRow[]): Promise<void> {
    const { outbox, flow, onConfirmed, setAside, sweep } = this.#parts;
    const claimedAt = performance.now();
    const targets = distinctTargets(rows);
    const { refused, sweeps, keys } = await apply(this.#parts, targets);
    const applyMs = performance.now() - claimedAt;
    const others = new Set([...refused.keys(), ...sweeps]);
    const confirmed = others.size === 0 ? rows : rows.filter((row) => !others.has(row.target));

    flow.confirmed(oldest(rows) + applyMs);
    onConfirmed({ rows: confirmed, targets: targets.length, keys, applyMs });
    await outbox.acknowledge(confirmed.map((row) => row.id));
    if (others.size === 0) return;

    // These come last, so that they never hold up what Redis has taken.
    for (const [target, failure] of refused) await setAside(target, failure);
    for (const target of sweeps) await sweep(target);
    await outbox.acknowledge(rows.filter((row) => others.has(row.target)).map((row) => row.id));
  }
}

function distinctTargets(rows: readonly OutboxRow[]): string[] {
  if (rows.length === 1 && rows[0] !== undefined) return [rows[0].target];
  return [...new Set(rows.map((row) => row.target))];
}

function oldest(rows: readonly OutboxRow[]): number {
  let most = 0;
  for (const row of rows) if (row.ageMs > most) most = row.ageMs;
  return most;
}
