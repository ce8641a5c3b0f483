/**
 * What a running worker checks every 2 s because nothing else would show it: whether a standby could take over, and whether a
 * foreign session holds WAKE_LOCK. A finding is logged once; /readyz and the metrics show it while it lasts.
 */
import type pg from 'pg';
import { describeForeignSession, leaderIsAlive, lockHolders } from '../db/lock-holders.ts';
import type { Outbox } from '../db/outbox.ts';
import { StandbyRedis } from '../diagnostics/self-checks/standby-redis.ts';
import { WakeLockCheck } from '../diagnostics/self-checks/wake-lock.ts';
import type { Log } from '../lib/log.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { CacheServer } from '../redis/upstash.ts';
import type { Wakeup } from './wakeup.ts';

const INTERVAL_MS = 2_000;

export interface SelfChecks {
  /** Why this worker is not ready, one sentence each. */
  readonly reasons: readonly string[];
  /** What does not keep it from being ready. */
  readonly warnings: readonly string[];
  start(): void;
  stop(): void;
}

export interface SelfCheckParts {
  readonly cache: CacheServer;
  readonly pool: pg.Pool;
  readonly outbox: Outbox;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly wakeup: Pick<Wakeup, 'role' | 'state' | 'leaderless' | 'showFitness'>;
}

export function createSelfChecks(parts: SelfCheckParts): SelfChecks {
  const { cache, pool, outbox, log, metrics, wakeup } = parts;
  const standby = new StandbyRedis({
    cache,
    epoch: () => outbox.epoch(),
    leaderAlive: () => leaderIsAlive(pool),
    onChange: (failure) => {
      metrics.standbyUnfit.set(failure === null ? 0 : 1);
      if (failure !== null)
        log.error({ code: failure.code }, `This standby could not take over: ${failure.message}`);
      else if (wakeup.role === 'following') log.info('This standby could take over now.');
    },
  });
  const wakeLock = new WakeLockCheck({
    holders: () => lockHolders(pool),
    onChange: (holder) => {
      if (holder === null) log.info('No foreign session holds the wake lock any more.');
      else {
        const { pid, role, application } = holder;
        log.warn({ pid, role, application }, describeForeignSession(holder));
      }
    },
  });

  let checking = false;
  let timer: NodeJS.Timeout | undefined;
  const check = () => {
    if (checking) return;
    checking = true;
    void Promise.all([
      standby.check(wakeup.role).then(() => wakeup.showFitness(standby.failure === null)),
      wakeLock.check(wakeup.role, wakeup.state),
    ]).finally(() => {
      metrics.wakeLockHeld.set(wakeLock.foreign === null && wakeup.leaderless === null ? 0 : 1);
      checking = false;
    });
  };
  return {
    get reasons() {
      return standby.failure === null || wakeup.role !== 'following'
        ? []
        : [`This standby could not take over: ${standby.failure.message}`];
    },
    get warnings() {
      if (wakeup.leaderless !== null) return [wakeup.leaderless];
      return wakeLock.foreign === null ? [] : [describeForeignSession(wakeLock.foreign)];
    },
    start() {
      timer = setInterval(check, INTERVAL_MS);
    },
    stop() {
      clearInterval(timer);
    },
  };
}
