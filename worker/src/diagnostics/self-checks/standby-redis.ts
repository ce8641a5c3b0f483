/**
 * A standby's Redis. A worker that waits for leadership sends Redis nothing, so nothing would tell that it could not take
 * over, with a mistyped address, a token that was revoked or another prefix, until it has to. It therefore asks when it begins
 * to stand by and then once an hour, two commands each time (1 440 in 30 days):
 *
 *     DEL of a key that never exists    the address answers, and the token may write
 *     GET of the heartbeat              it is the Redis, and the prefix, that the leading worker keeps alive
 *
 * After a failure it asks again every minute. A heartbeat that is not the leader's counts only when it is so twice, since
 * a leader that has just begun an epoch, or its term, is still writing it.
 */
import { HEARTBEAT_KEY } from '../../../../supabase/functions/_shared/cache/protocol/epoch.ts';
import { asWorkerError, ExitCode, WorkerError } from '../../lib/errors.ts';
import { PROBE_KEY } from '../../redis/apply.ts';
import type { CacheServer } from '../../redis/upstash.ts';
import type { Role } from '../../wakeup/leader-election.ts';

const SOUND_MS = 3_600_000;
const FAILED_MS = 60_000;
const AGAIN_MS = 5_000;

export interface StandbyRedisParts {
  readonly cache: Pick<CacheServer, 'del' | 'get'>;
  /** The epoch that the database knows, which the leader's heartbeat holds. */
  epoch(): Promise<string>;
  leaderAlive(): Promise<boolean>;
  /** The verdict is another than before; null: this worker can take over, or need not any more. */
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

  /** Why this worker could not take over; null when it could, or does not stand by. */
  get failure(): WorkerError | null {
    return this.#failure;
  }

  /** Asks if it is due; called every few seconds. Never rejects. */
  async look(role: Role): Promise<void> {
    // Between two sessions nothing changes: the role that follows decides.
    if (role === 'starting') return;
    if (role !== 'following') {
      this.#dueAt = 0;
      this.#suspected = false;
      this.#settle(null);
      return;
    }
    if (this.#now() < this.#dueAt) return;
    let foreign = false;
    try {
      foreign = await this.#isForeign();
      if (foreign && !this.#suspected) {
        this.#suspected = true;
        this.#dueAt = this.#now() + AGAIN_MS;
        return;
      }
      this.#settle(foreign ? foreignError() : null);
    } catch (error) {
      this.#settle(asWorkerError(error));
    }
    this.#suspected = foreign;
    this.#dueAt = this.#now() + (this.#failure === null ? SOUND_MS : FAILED_MS);
  }

  /** @throws WorkerError when Redis cannot be written or read */
  async #isForeign(): Promise<boolean> {
    const { cache, epoch, leaderAlive } = this.#parts;
    await cache.del([PROBE_KEY]);
    const heartbeat = await cache.get(HEARTBEAT_KEY);
    return heartbeat !== (await epoch()) && (await leaderAlive());
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
