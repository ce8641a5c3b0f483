/**
 * The worker's side of the epoch and the heartbeat (docs/protocol.md#epoch-and-heartbeat). The heartbeat is renewed every
 * 30 s, only while invalidations flow. Without it readers accept only very young entries, so a dead worker costs hit rate,
 * not truth.
 *
 *     new epoch:  in Postgres first, then the epoch and the heartbeat in one Redis transaction. After a crash in between, the next
 *                 beat finds that Redis and the database differ, and starts another epoch.
 *
 *     beat:       GETEX heartbeat EX 90  (reads and renews it; every tenth beat also GET epoch)
 *                 the known epoch          → alive; the database notes when, if it still has that epoch, and else a new epoch begins
 *                 nothing, or another one  → Redis was emptied or restored, or `*` was requested: new epoch, unless the
 *                                            database has that one because another worker started it
 *
 * Promise: the heartbeat of an epoch is written once, in the transaction that writes the epoch, and never again once lost.
 */
import {
  EPOCH_KEY,
  HEARTBEAT_INTERVAL_MS,
  HEARTBEAT_KEY,
  HEARTBEAT_TTL_SECONDS,
} from '../../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { explainDatabaseError } from '../db/errors.ts';
import type { Outbox } from '../db/outbox.ts';
import { asWorkerError, type WorkerError } from '../lib/errors.ts';
import { Serial } from '../lib/waiting.ts';
import { classify } from '../redis/errors.ts';
import type { CacheServer } from '../redis/upstash.ts';
import type { DeliveryHealth } from './health.ts';

/**
 * The epoch key is checked every tenth beat. Only an eviction or a manual delete removes it; until the check, readers accept
 * only young entries. An idle worker so sends 95 040 commands in 30 days; a check every fifth beat would exceed 100 000.
 */
export const BEATS_PER_EPOCH_CHECK = 10;

/** After a failed beat. */
const RETRY_MS = 2_000;

export interface HeartbeatParts {
  readonly cache: Pick<CacheServer, 'getAndRenew' | 'get' | 'setTogether'>;
  readonly outbox: Pick<Outbox, 'epoch' | 'newEpoch' | 'confirmEpoch'>;
  readonly databaseUrl: string;
  readonly health: DeliveryHealth;
  readonly intervalMs?: number;
  onError(error: WorkerError): void;
  onNewEpoch(reason: string): void;
}

export class Heartbeat {
  readonly #parts: HeartbeatParts;
  #epoch: string | null = null;
  /** Beats until the epoch is checked. */
  #untilCheck = 0;
  #dueAt = 0;
  #confirmedAt: number | null = null;
  #failure: WorkerError | null = null;
  /** Beats and new epochs run one after the other. */
  readonly #commands = new Serial();
  #beating = false;

  constructor(parts: HeartbeatParts) {
    this.#parts = parts;
  }

  /** Milliseconds since Redis last confirmed the heartbeat; null when it never did. */
  get ageMs(): number | null {
    return this.#confirmedAt === null ? null : performance.now() - this.#confirmedAt;
  }

  /** Why the last beat was not confirmed; null when it was. Only beats tell an idle worker that Redis is away. */
  get failure(): WorkerError | null {
    return this.#failure;
  }

  /** Milliseconds until `beatIfDue` should be called again. */
  get dueInMs(): number {
    const left = this.#dueAt - performance.now();
    return left > 0 ? left : RETRY_MS;
  }

  /** Called after every delivery: beats when a beat is due and invalidations flow. Never throws, never waits. */
  beatIfDue(): void {
    if (this.#beating || performance.now() < this.#dueAt || !this.#parts.health.flowing) return;
    this.#beating = true;
    void this.#commands
      .run(() => this.#beat())
      .then(() => {
        this.#dueAt = performance.now() + (this.#parts.intervalMs ?? HEARTBEAT_INTERVAL_MS);
      })
      .catch((error: unknown) => {
        this.#dueAt = performance.now() + RETRY_MS;
        this.#failure = asWorkerError(error);
        this.#parts.onError(this.#failure);
      })
      .finally(() => {
        this.#beating = false;
      });
  }

  /**
   * Starts a new epoch, which invalidates the whole cache. Resolves when Redis has it.
   *
   * @throws WorkerError when Postgres or Redis fails; any step may have happened, and starting another epoch is right
   */
  startEpoch(reason: string): Promise<void> {
    return this.#commands.run(() => this.#renewEpoch(reason));
  }

  /** A new term of leadership: reads the epoch again. */
  reset(): void {
    this.#epoch = null;
    this.#untilCheck = 0;
    this.#failure = null;
    this.#dueAt = 0;
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    await this.#commands.settled();
  }

  async #beat(): Promise<void> {
    const { cache, outbox } = this.#parts;
    this.#epoch ??= await this.#ofDatabase(outbox.epoch());
    const found = await cache.getAndRenew(HEARTBEAT_KEY, HEARTBEAT_TTL_SECONDS);
    if (found !== null && found !== this.#epoch) this.#epoch = await this.#ofDatabase(outbox.epoch());
    if (found === null) return await this.#renewEpoch('the heartbeat was missing');
    if (found !== this.#epoch) return await this.#renewEpoch('the heartbeat held a foreign epoch');
    if (this.#untilCheck <= 0) {
      if ((await cache.get(EPOCH_KEY)) !== found) return await this.#renewEpoch('the epoch was lost');
      this.#untilCheck = BEATS_PER_EPOCH_CHECK;
    }
    this.#untilCheck--;
    if (!(await this.#ofDatabase(outbox.confirmEpoch(found))))
      return await this.#renewEpoch('the database has another epoch');
    this.#confirmed();
  }

  async #renewEpoch(reason: string): Promise<void> {
    const { cache, outbox, onNewEpoch } = this.#parts;
    this.#epoch = null;
    const epoch = await this.#ofDatabase(outbox.newEpoch());
    try {
      await cache.setTogether([
        { key: EPOCH_KEY, value: epoch, seconds: null },
        { key: HEARTBEAT_KEY, value: epoch, seconds: HEARTBEAT_TTL_SECONDS },
      ]);
    } catch (error) {
      throw classify(error);
    }
    this.#epoch = epoch;
    this.#untilCheck = BEATS_PER_EPOCH_CHECK;
    // Another worker may have started one more; the next beat finds that.
    await this.#ofDatabase(outbox.confirmEpoch(epoch));
    this.#confirmed();
    onNewEpoch(reason);
  }

  /** @throws WorkerError: a database that is away is no defect of the worker */
  async #ofDatabase<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } catch (error) {
      throw explainDatabaseError(error, this.#parts.databaseUrl);
    }
  }

  #confirmed(): void {
    this.#confirmedAt = performance.now();
    this.#failure = null;
  }
}
