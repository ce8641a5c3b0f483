/**
 * The heartbeat: a key in Redis that lives for 90 s and is renewed every 30 s, only while invalidations flow. Readers
 * that find it missing trust only very young entries, so a dead worker costs hit rate, not truth.
 *
 * Its value is the epoch. An entry is a hit only under the epoch it was stored under; a new epoch is therefore the
 * whole cache invalidated in one command. The order is: new epoch in Postgres first, then in Redis. A crash between the
 * two leaves a value in Redis that is not the database's, which the next beat finds and answers with another new epoch.
 *
 *     beat:  GETEX heartbeat EX 90  (reads and renews at once: an idle worker costs 86 400 commands a month)
 *            the epoch we know        → alive
 *            nothing, or another one  → Redis was emptied, restored from the past, or someone started over: new epoch,
 *                                       unless the database has that one (another worker started it)
 */
import {
  HEARTBEAT_INTERVAL_MS,
  HEARTBEAT_KEY,
  HEARTBEAT_TTL_SECONDS,
} from '../../../supabase/functions/_shared/heartbeat.ts';
import type { CacheServer } from '../apply/upstash.ts';
import { classify } from '../apply/upstash-errors.ts';
import type { Flow } from '../drain/flow.ts';
import type { Outbox } from '../drain/outbox.ts';
import { asWorkerError, type WorkerError } from '../errors.ts';

/** After a beat that failed. */
const RETRY_MS = 2_000;

export interface HeartbeatParts {
  readonly cache: Pick<CacheServer, 'getAndRenew' | 'set'>;
  readonly outbox: Pick<Outbox, 'epoch' | 'newEpoch'>;
  readonly prefix: string;
  readonly flow: Flow;
  readonly intervalMs?: number;
  onTrouble(error: WorkerError): void;
  onNewEpoch(reason: string): void;
}

export class Heartbeat {
  readonly #parts: HeartbeatParts;
  #epoch: string | null = null;
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
    this.#failure = null;
    this.#dueAt = 0;
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    await this.#last;
  }

  async #beat(): Promise<void> {
    const { cache, outbox, prefix } = this.#parts;
    this.#epoch ??= await outbox.epoch();
    const found = await cache.getAndRenew(prefix + HEARTBEAT_KEY, HEARTBEAT_TTL_SECONDS);
    if (found !== null && found !== this.#epoch) this.#epoch = await outbox.epoch();
    if (found === null || found !== this.#epoch) {
      await this.#renewEpoch(
        found === null ? 'the heartbeat was missing' : 'the heartbeat held a foreign epoch',
      );
    } else {
      this.#confirmed();
    }
  }

  async #renewEpoch(reason: string): Promise<void> {
    const { cache, outbox, prefix, onNewEpoch } = this.#parts;
    this.#epoch = null;
    const epoch = await outbox.newEpoch();
    try {
      await cache.set(prefix + HEARTBEAT_KEY, epoch, HEARTBEAT_TTL_SECONDS);
    } catch (error) {
      throw classify(error);
    }
    this.#epoch = epoch;
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
