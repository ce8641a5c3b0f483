/**
 * Whether a standby could take over. A follower sends Redis nothing, so a wrong address, a revoked token or another prefix would
 * show only when it has to lead. It therefore checks when it begins to follow and then once an hour, with two commands each time
 * (1 440 in 30 days):
 *
 *     DEL of a key that never exists    the address answers, and the token may write
 *     GET of the heartbeat              it is the Redis, and the prefix, that the leader keeps alive
 *
 * After a failure it checks every minute. A heartbeat that differs from the leader's counts only when seen twice, because a
 * leader may be about to write a new one.
 */
import { HEARTBEAT_KEY } from '../../../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { asWorkerError, ExitCode, WorkerError } from '../../lib/errors.ts';
import { deleteProbe } from '../../redis/apply.ts';
import type { CacheServer } from '../../redis/upstash.ts';
import type { Role } from '../../wakeup/leader-election.ts';

const CHECK_MS = 3_600_000;
const CHECK_AFTER_FAILURE_MS = 60_000;
const CONFIRM_MS = 5_000;

export interface StandbyRedisParts {
  readonly cache: Pick<CacheServer, 'del' | 'get'>;
  /** The epoch that the database knows, which the leader's heartbeat holds. */
  epoch(): Promise<string>;
  leaderAlive(): Promise<boolean>;
  /** The verdict changed; null: this worker could take over, or does not follow any more. */
  onChange(failure: WorkerError | null): void;
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number;
}

export class StandbyRedis {
  readonly #parts: StandbyRedisParts;
  readonly #now: () => number;
  #dueAt = 0;
  #failure: WorkerError | null = null;
  #suspected = false;

  constructor(parts: StandbyRedisParts) {
    this.#parts = parts;
    this.#now = parts.now ?? (() => performance.now());
  }

  /** Why this worker could not take over; null when it could, or does not follow. */
  get failure(): WorkerError | null {
    return this.#failure;
  }

  /** Called every 2 s; checks when it is due. Never rejects. */
  async check(role: Role): Promise<void> {
    // Between two sessions the last verdict stands.
    if (role === 'starting') return;
    if (role !== 'following') {
      this.#dueAt = 0;
      this.#suspected = false;
      this.#settle(null);
      return;
    }
    if (this.#now() < this.#dueAt) return;
    const { cache, epoch, leaderAlive } = this.#parts;
    let heartbeat: string | null;
    try {
      await deleteProbe(cache);
      heartbeat = await cache.get(HEARTBEAT_KEY);
    } catch (error) {
      this.#suspected = false;
      this.#settleUntilNext(asWorkerError(error));
      return;
    }
    let foreign: boolean;
    try {
      foreign = heartbeat !== (await epoch()) && (await leaderAlive());
    } catch {
      // A database that is away says nothing about Redis.
      this.#dueAt = this.#now() + CHECK_AFTER_FAILURE_MS;
      return;
    }
    if (foreign && !this.#suspected) {
      this.#suspected = true;
      this.#dueAt = this.#now() + CONFIRM_MS;
      return;
    }
    this.#suspected = foreign;
    this.#settleUntilNext(foreign ? foreignError() : null);
  }

  #settleUntilNext(failure: WorkerError | null): void {
    this.#settle(failure);
    this.#dueAt = this.#now() + (failure === null ? CHECK_MS : CHECK_AFTER_FAILURE_MS);
  }

  #settle(failure: WorkerError | null): void {
    if (failure?.code === this.#failure?.code) return;
    this.#failure = failure;
    this.#parts.onChange(failure);
  }
}

function foreignError(): WorkerError {
  return new WorkerError(
    'STANDBY_REDIS_DIFFERS',
    "This worker's Redis does not hold the leading worker's heartbeat: give both the same UPSTASH_REDIS_REST_URL and CACHE_PREFIX; if they have it, the leader's /readyz says why it does not beat.",
    { exitCode: ExitCode.configuration },
  );
}
