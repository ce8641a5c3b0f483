/**
 * What a running worker looks at by itself every few seconds, because nothing else would bring it to light: a standby's
 * Redis (standby-redis.ts) and who keeps the doorbell's lock (bell-lock.ts). Both say what they find once in the log, and
 * /readyz and the metrics show it while it lasts.
 */
import type pg from 'pg';
import { describeForeignSession, leaderIsAlive, lockHolders } from '../db/lock-holders.ts';
import { UNFIT_APPLICATION } from '../db/names.ts';
import { StandbyRedis } from '../diagnostics/self-checks/standby-redis.ts';
import { BellLock } from '../diagnostics/self-checks/wake-lock.ts';
import type { Context } from './context.ts';
import type { Bell } from './wakeup.ts';

const LOOK_MS = 2_000;

export interface SelfChecks {
  /** Why this worker is not ready, one sentence each. */
  readonly reasons: readonly string[];
  /** What does not keep it from being ready. */
  readonly warnings: readonly string[];
  start(): void;
  stop(): void;
}

export function createSelfChecks(
  context: Context,
  bell: Pick<Bell, 'role' | 'state' | 'contest'>,
): SelfChecks {
  const { cache, pool, outbox, log, metrics } = context;
  const mark = new UnfitMark(pool);
  const standby = new StandbyRedis({
    cache,
    epoch: () => outbox.epoch(),
    leaderAlive: () => leaderIsAlive(pool),
    onChange: (failure) => {
      metrics.standbyUnfit.set(failure === null ? 0 : 1);
      if (failure !== null)
        log.error({ code: failure.code }, `This standby could not take over: ${failure.message}`);
      else if (bell.role === 'following') log.info('This standby could take over now.');
    },
  });
  const lock = new BellLock({
    holders: () => lockHolders(pool),
    onChange: (holder) => {
      if (holder === null) log.info("No stranger holds the doorbell's lock any more.");
      else {
        const { pid, role, application } = holder;
        log.warn({ pid, role, application }, describeForeignSession(holder));
      }
    },
  });

  let busy = false;
  let timer: NodeJS.Timeout | undefined;
  const look = () => {
    if (busy) return;
    busy = true;
    void Promise.all([
      standby.look(bell.role).then(() => mark.set(standby.failure !== null)),
      lock.look(bell.role, bell.state),
    ]).finally(() => {
      metrics.bellHeld.set(lock.stranger === null && bell.contest === null ? 0 : 1);
      busy = false;
    });
  };
  return {
    get reasons() {
      return standby.failure === null || bell.role !== 'following'
        ? []
        : [`This standby could not take over: ${standby.failure.message}`];
    },
    get warnings() {
      if (bell.contest !== null) return [bell.contest];
      return lock.stranger === null ? [] : [describeForeignSession(lock.stranger)];
    },
    start() {
      timer = setInterval(look, LOOK_MS);
    },
    stop() {
      clearInterval(timer);
      mark.close();
    },
  };
}

/** A session that says by its name, where every other worker and `status` can see it, that its worker is unfit. */
class UnfitMark {
  readonly #pool: pg.Pool;
  #client: pg.PoolClient | null = null;
  #closed = false;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  /** Never rejects: where the database is away there is nobody to tell. */
  async set(unfit: boolean): Promise<void> {
    if (!unfit) return this.clear();
    if (this.#client !== null || this.#closed) return;
    try {
      // One of the pool's two connections, of which a standby needs one.
      const client = await this.#pool.connect();
      client.once('error', () => this.clear());
      this.#client = client;
      if (this.#closed) return this.clear();
      await client.query("select set_config('application_name', $1, false)", [UNFIT_APPLICATION]);
    } catch {
      this.clear();
    }
  }

  /** Takes no connection any more. */
  close(): void {
    this.#closed = true;
    this.clear();
  }

  /** The connection is closed, not given back under a false name. */
  clear(): void {
    this.#client?.release(true);
    this.#client = null;
  }
}
