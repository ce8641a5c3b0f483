/**
 * What a running worker checks by itself because nothing else would show it: whether a standby could take over, whether Redis takes
 * writes, whether a foreign session holds WAKE_LOCK, and whether every write is captured. A finding is logged once; /readyz and the metrics show it
 * while it lasts.
 */
import type pg from 'pg';
import { describeForeignSession, leaderIsAlive, lockHolders } from '../db/lock-holders.ts';
import type { Outbox } from '../db/outbox.ts';
import { CaptureCheck, captureProblemsWithin, describeProblem } from '../diagnostics/self-checks/capture.ts';
import { RedisWrites } from '../diagnostics/self-checks/redis-writes.ts';
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
  const writes = new RedisWrites({
    cache,
    onChange: (failure) => {
      if (failure !== null) log.error({ code: failure.code }, `No answer can be stored: ${failure.message}`);
      else if (wakeup.role === 'leading') log.info('Redis takes writes again.');
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

  const capture = new CaptureCheck({
    problems: () => captureProblemsWithin(pool),
    onBegin: (problem) => {
      const level = ({ error: 'error', warning: 'warn', notice: 'info' } as const)[problem.severity];
      log[level]({ watch: problem.watch, severity: problem.severity }, describeProblem(problem));
    },
    onEnd: ({ watch, severity, problem }) => log.info({ watch, severity }, `No longer: ${problem}.`),
  });
  const describeCapture = (isError: boolean) =>
    capture.problems.filter(({ severity }) => (severity === 'error') === isError).map(describeProblem);

  let checking = false;
  let timer: NodeJS.Timeout | undefined;
  const checkCapture = async () => {
    await capture.check(wakeup.role);
    for (const severity of ['error', 'warning', 'notice'] as const) {
      const count = capture.problems.filter((problem) => problem.severity === severity).length;
      metrics.captureProblems.set({ severity }, count);
    }
  };
  const check = () => {
    void checkCapture();
    if (checking) return;
    checking = true;
    void Promise.all([
      standby.check(wakeup.role).then(() => wakeup.showFitness(standby.failure === null)),
      writes.check(wakeup.role),
      wakeLock.check(wakeup.role, wakeup.state),
    ]).finally(() => {
      metrics.wakeLockHeld.set(wakeLock.foreign === null && wakeup.leaderless === null ? 0 : 1);
      checking = false;
    });
  };
  return {
    get reasons() {
      const reasons = describeCapture(true);
      if (standby.failure !== null && wakeup.role === 'following')
        reasons.push(`This standby could not take over: ${standby.failure.message}`);
      return reasons;
    },
    get warnings() {
      const warnings = describeCapture(false);
      if (writes.failure !== null) warnings.push(`No answer can be stored: ${writes.failure.message}`);
      if (wakeup.leaderless !== null) warnings.push(wakeup.leaderless);
      else if (wakeLock.foreign !== null) warnings.push(describeForeignSession(wakeLock.foreign));
      return warnings;
    },
    start() {
      timer = setInterval(check, INTERVAL_MS);
    },
    stop() {
      clearInterval(timer);
    },
  };
}
