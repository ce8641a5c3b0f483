/**
 * Whether Redis takes what is written. A full one still deletes and reads, so invalidations flow and the heartbeat is renewed, but no
 * reader can store an answer. Nothing that the worker sends on the way would show that, so the leader writes a key that ends at
 * once: when it begins to lead and every 20 minutes (2 160 commands in 30 days), after a refusal every minute.
 */
import { asWorkerError, type WorkerError } from '../../lib/errors.ts';
import type { CacheServer } from '../../redis/upstash.ts';
import type { Role } from '../../wakeup/leader-election.ts';

const CHECK_MS = 1_200_000;
const CHECK_AFTER_FAILURE_MS = 60_000;
const KEY = 'fencepost:doctor';

const AWAY: ReadonlySet<string> = new Set(['UPSTASH_TIMEOUT', 'UPSTASH_UNREACHABLE']);

export interface RedisWritesParts {
  readonly cache: Pick<CacheServer, 'set'>;
  /** The verdict changed; null: Redis takes writes, or this worker does not lead any more. */
  onChange(failure: WorkerError | null): void;
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number;
}

export class RedisWrites {
  readonly #parts: RedisWritesParts;
  readonly #now: () => number;
  #dueAt = 0;
  #failure: WorkerError | null = null;

  constructor(parts: RedisWritesParts) {
    this.#parts = parts;
    this.#now = parts.now ?? (() => performance.now());
  }

  /** Why the last write was refused; null when it was not, or this worker does not lead. */
  get failure(): WorkerError | null {
    return this.#failure;
  }

  /** Called every 2 s; checks when it is due. Never rejects. */
  async check(role: Role): Promise<void> {
    if (role !== 'leading') {
      this.#dueAt = 0;
      this.#settle(null);
      return;
    }
    if (this.#now() < this.#dueAt) return;
    try {
      await this.#parts.cache.set(KEY, 'written', 1);
      this.#settle(null);
      this.#dueAt = this.#now() + CHECK_MS;
    } catch (error) {
      const failure = asWorkerError(error);
      // A Redis that is away says nothing about its writes, and is reported by whoever needs it.
      if (!AWAY.has(failure.code)) this.#settle(failure);
      this.#dueAt = this.#now() + CHECK_AFTER_FAILURE_MS;
    }
  }

  #settle(failure: WorkerError | null): void {
    if (failure?.message === this.#failure?.message) return;
    this.#failure = failure;
    this.#parts.onChange(failure);
  }
}
