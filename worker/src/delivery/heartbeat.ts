/**
 * The worker's side of the epoch and the heartbeat; the whole protocol, with why it holds, stands in
 * supabase/functions/_shared/cache/protocol/epoch.ts. The heartbeat is renewed every 30 s, only while invalidations flow. Readers that
 * find it missing trust only very young entries, so a dead worker costs hit rate, not truth.
 *
 *     new epoch:  in Postgres first, then in Redis: the epoch and the heartbeat in one transaction. A crash between the two leaves
 *                 in Redis what is not the database's, which the next beat finds and answers with another new epoch.
 *
 *     beat:       GETEX heartbeat EX 90  (reads and renews at once; every tenth beat GET epoch as well)
 *                 the epoch we know        → alive
 *                 nothing, or another one  → Redis was emptied, restored from the past, or someone asked for `*`: new epoch,
 *                                            unless the database has that one (another worker started it)
 *
 * Invariant: the heartbeat of an epoch is written once, in the transaction that writes the epoch, and never again when it was lost.
 */
import {
  EPOCH_KEY,
  HEARTBEAT_INTERVAL_MS,
  HEARTBEAT_KEY,
  HEARTBEAT_TTL_SECONDS,
} from '../../../supabase/functions/_shared/cache/protocol/epoch.ts';
import type { Outbox } from '../db/outbox.ts';
import { asWorkerError, type WorkerError } from '../lib/errors.ts';
import { classify } from '../redis/errors.ts';
import type { CacheServer } from '../redis/upstash.ts';
import type { Flow } from './health.ts';

/**
 * Every how many beats the epoch itself is looked at. It is lost by eviction or by hand alone; then readers are careful until
 * this is found. One command in ten makes 95 040 in 30 days of a worker that has nothing to do; more would exceed 100 000.
 */
export const BEATS_PER_LOOK = 10;

/** After a beat that failed. */
const RETRY_MS = 2_000;

export interface HeartbeatParts {
  readonly cache: Pick<CacheServer, 'getAndRenew' | 'get' | 'setTogether'>;
  readonly outbox: Pick<Outbox, 'epoch' | 'newEpoch'>;
  readonly flow: Flow;
  readonly intervalMs?: number;
  onTrouble(error: WorkerError): void;
  onNewEpoch(reason: string): void;
}

export class Heartbeat {
  readonly #parts: HeartbeatParts;
  #epoch: string | null = null;
  /** Beats until the epoch is looked at. */
  #untilLook = 0;
  #dueAt = 0;
  #confirmedAt: number | null = null;
  #failure: WorkerError | null = null;
  /** Beats and new epochs happen one after the other. */
  #last: Promise<void> = Promise.resolve();
  #beating = false;

  constructor(parts: HeartbeatParts) {
    this.#parts = parts;
  }

  /** Milliseconds since Redis last confirmed the heartbeat; null when it never did. */
  get ageMs(): number | null {
    return this.#confirmedAt === null ? null : performance.now() - this.#confirmedAt;
  }

  /** Why the last beat was not confirmed; null when it was. An idle worker learns from its beats alone that Redis is away. */
  get failure(): WorkerError | null {
    return this.#failure;
  }

  /** Milliseconds until `poke` should be called, which beats or sees whether the beat under way has failed. */
  get dueInMs(): number {
    const left = this.#dueAt - performance.now();
    return left > 0 ? left : RETRY_MS;
  }

  /** Called after every drain: beats when it is due and invalidations flow. Never rejects, never waits. */
  poke(): void {
    if (this.#beating || performance.now() < this.#dueAt || !this.#parts.flow.flowing) return;
    this.#beating = true;
    void this.#inLine(() => this.#beat())
      .then(() => {
        this.#dueAt = performance.now() + (this.#parts.intervalMs ?? HEARTBEAT_INTERVAL_MS);
      })
      .catch((error: unknown) => {
        this.#dueAt = performance.now() + RETRY_MS;
        this.#failure = asWorkerError(error);
        this.#parts.onTrouble(this.#failure);
      })
      .finally(() => {
        this.#beating = false;
      });
  }

  /**
   * Starts a new epoch; resolves when Redis has it: the acknowledgement of the target `*`.
   *
   * @throws WorkerError when Postgres or Redis fails; then any step may have happened, and starting another is right
   */
  startEpoch(reason: string): Promise<void> {
    return this.#inLine(() => this.#renewEpoch(reason));
  }

  /** Forgets what was known of the epoch: leadership begins anew. */
  forget(): void {
    this.#epoch = null;
    this.#untilLook = 0;
    this.#failure = null;
    this.#dueAt = 0;
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    await this.#last;
  }

  async #beat(): Promise<void> {
    const { cache, outbox } = this.#parts;
    this.#epoch ??= await outbox.epoch();
    const found = await cache.getAndRenew(HEARTBEAT_KEY, HEARTBEAT_TTL_SECONDS);
    if (found !== null && found !== this.#epoch) this.#epoch = await outbox.epoch();
    if (found === null) return await this.#renewEpoch('the heartbeat was missing');
    if (found !== this.#epoch) return await this.#renewEpoch('the heartbeat held a foreign epoch');
    if (this.#untilLook <= 0) {
      if ((await cache.get(EPOCH_KEY)) !== found) return await this.#renewEpoch('the epoch was lost');
      this.#untilLook = BEATS_PER_LOOK;
    }
    this.#untilLook--;
    this.#confirmed();
  }

  async #renewEpoch(reason: string): Promise<void> {
    const { cache, outbox, onNewEpoch } = this.#parts;
    this.#epoch = null;
    const epoch = await outbox.newEpoch();
    try {
      await cache.setTogether([
        { key: EPOCH_KEY, value: epoch, seconds: null },
        { key: HEARTBEAT_KEY, value: epoch, seconds: HEARTBEAT_TTL_SECONDS },
      ]);
    } catch (error) {
      throw classify(error);
    }
    this.#epoch = epoch;
    this.#untilLook = BEATS_PER_LOOK;
    this.#confirmed();
    onNewEpoch(reason);
  }

  #confirmed(): void {
    this.#confirmedAt = performance.now();
    this.#failure = null;
  }

  #inLine(work: () => Promise<void>): Promise<void> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }
}
