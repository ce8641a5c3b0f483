/**
 * Starts the worker: makes its parts and ties them together.
 *
 *     NOTIFY ──▶ Listener ──▶ LeaderElection ──▶ SleepProtocol ──▶ DeliveryLoop ──▶ apply ──▶ Redis      wakeup.ts, delivery.ts
 *                                                                  │   └─▶ Heartbeat, while delivery succeeds
 *                                                                  └─▶ pending ──▶ BullMQ ──▶ PendingWork    queue.ts
 *
 * It uses at most six connections to Postgres: one listens, one holds the locks, two deliver, two are the queue's.
 */
import { explainDatabaseError, isPermanent } from '../db/errors.ts';
import { leaderIsAlive } from '../db/lock-holders.ts';
import { Outbox } from '../db/outbox.ts';
import { Pending, type PendingCounts } from '../db/pending.ts';
import { deliveryPool } from '../db/pool.ts';
import { checkDatabase } from '../db/preconditions.ts';
import { ErrorLog, type ErrorSource } from '../delivery/error-log.ts';
import { DeliveryHealth, stallAfter } from '../delivery/health.ts';
import { Heartbeat } from '../delivery/heartbeat.ts';
import { createOverview } from '../http/dashboard/overview.ts';
import { type Readiness, readiness } from '../http/readiness.ts';
import { startHttpServer } from '../http/server.ts';
import { CachedQuery } from '../lib/cached-query.ts';
import type { Configuration } from '../lib/config.ts';
import { asWorkerError, ExitCode, WorkerError } from '../lib/errors.ts';
import { createLog, type Log } from '../lib/log.ts';
import { answerWithin, endsWithin } from '../lib/waiting.ts';
import { Metrics } from '../metrics/metrics.ts';
import { createScrape } from '../metrics/scrape.ts';
import type { QueueSupervisor } from '../queue/supervisor.ts';
import { deleteProbe } from '../redis/apply.ts';
import { connectUpstash } from '../redis/upstash.ts';
import { createDelivery } from './delivery.ts';
import { createQueue } from './queue.ts';
import { createSelfChecks } from './self-checks.ts';
import { createWakeup, type Wakeup } from './wakeup.ts';

export interface RunningWorker {
  /** Where the dashboard, /healthz, /readyz and /metrics are. */
  readonly url: string;
  readiness(): Promise<Readiness>;
  /**
   * Waits at most 4 s for the batches in flight, then closes everything.
   *
   * @returns whether they were finished; if not, their rows stay in the outbox for the next worker
   */
  stop(): Promise<{ finished: boolean }>;
}

/** Together below the 5 s that a stopping worker may take. */
const FINISH_WITHIN_MS = 3_800;
const CLOSE_WITHIN_MS = 600;
const END_WITHIN_MS = 200;

/** /readyz and /metrics answer even while the database does not. */
const LEADER_WITHIN_MS = 1_000;

/**
 * Starts a worker in this process. It waits for a database or a Redis that is away, and throws what no waiting can repair.
 *
 * @param signal gives up the start
 * @throws WorkerError when the setup is wrong: port taken, credentials refused, migrations missing, transaction pooler;
 *   STOPPED when the signal came first
 */
export async function startWorker(
  configuration: Configuration,
  log: Log = createLog(configuration),
  signal?: AbortSignal,
): Promise<RunningWorker> {
  const { databaseUrl, fallbackPollMs } = configuration;
  let stopping: Promise<{ finished: boolean }> | null = null;
  const metrics = new Metrics();
  const errors = new ErrorLog(log);
  const onError = (error: WorkerError, from?: ErrorSource) => {
    if (stopping !== null) return;
    metrics.errors.inc({ code: error.code });
    errors.report(error, from);
  };

  const pool = deliveryPool(databaseUrl, (error) => onError(explainDatabaseError(error, databaseUrl)));
  const outbox = new Outbox(pool);
  const cache = connectUpstash(configuration, (command) => metrics.command(command));
  const health = new DeliveryHealth(undefined, stallAfter(fallbackPollMs));
  const heartbeat = new Heartbeat({
    cache,
    outbox,
    databaseUrl,
    health,
    intervalMs: configuration.heartbeatIntervalMs,
    onError,
    onNewEpoch: (reason) => {
      metrics.epochs.inc();
      log.info({ reason }, `New epoch: the whole cache is invalidated (${reason}).`);
    },
  });
  const pending = new Pending(pool);
  // A confirmed epoch covers every event from before it; with loaders on replicas, those still need their second deletion.
  const startEpoch = async (): Promise<void> => {
    const snapshot = await outbox.snapshot();
    await heartbeat.startEpoch('asked for by the target *');
    if (configuration.replicaLagMs === 0) await pending.settle(snapshot);
  };
  const { queue, pendingWork } = createQueue({
    configuration,
    cache,
    pool,
    pending,
    log,
    startEpoch,
    onError,
    onAnswer: () => errors.over('queue'),
  });
  const delivery = createDelivery({
    configuration,
    cache,
    pool,
    outbox,
    pending,
    health,
    heartbeat,
    startEpoch,
    pendingWork,
    log,
    errors,
    metrics,
    onError,
  });
  const wakeup: Wakeup = createWakeup({
    databaseUrl,
    fallbackPollMs,
    pool,
    log,
    metrics,
    errors,
    health,
    delivery,
    queue,
    onError,
  });
  const checks = createSelfChecks({ cache, pool, outbox, log, metrics, wakeup });

  const role = () => wakeup.role;
  const pendingCounts = new CachedQuery(() => pending.counts(), { freshMs: 500, waitMs: 1_000 });
  const updateGauges = createScrape(metrics, outbox, queue, pending, role);
  const leader = new CachedQuery(() => leaderIsAlive(pool), {
    freshMs: LEADER_WITHIN_MS,
    waitMs: LEADER_WITHIN_MS,
  });
  const currentReadiness = async (): Promise<Readiness> => {
    const result = await readiness({
      role: wakeup.role,
      doorbell: wakeup.state,
      listening: wakeup.listening,
      heartbeatAgeMs: heartbeat.ageMs,
      heartbeatFailure: heartbeat.failure,
      health,
      stopping: stopping !== null,
      leaderAlive: async () => {
        const last = await leader.latest();
        return last?.value === true && Date.now() - last.at < 3 * LEADER_WITHIN_MS;
      },
      checks: {
        reasons: checks.reasons,
        warnings: [...checks.warnings, ...(await queueWarnings(queue, pendingCounts))],
      },
    });
    metrics.ready.set(result.ready ? 1 : 0);
    return result;
  };
  const http = await startHttpServer({
    host: configuration.host,
    port: configuration.port,
    readiness: currentReadiness,
    metrics: async () => {
      await Promise.all([updateGauges(), currentReadiness()]);
      return metrics.text();
    },
    overview: createOverview({
      pool,
      cache,
      metrics,
      queue,
      pending,
      role,
      readiness: currentReadiness,
    }),
    onError,
  });

  const check = async (): Promise<void> => {
    await checkOrWait(() => checkDatabase(databaseUrl), onError);
    // The one right that every worker needs.
    await checkOrWait(() => deleteProbe(cache), onError);
  };
  try {
    await answerWithin(null, check(), signal);
  } catch (error) {
    const wasStopped = signal?.aborted === true;
    await endsWithin(CLOSE_WITHIN_MS, Promise.allSettled([http.stop(), pool.end()]));
    if (!wasStopped) throw error;
    throw new WorkerError('STOPPED', 'Stopped before it had started.', { exitCode: ExitCode.ok });
  }

  wakeup.start();
  checks.start();
  log.info({ url: http.url }, `Fencepost's worker is up: ${http.url}/readyz`);

  const stop = async (): Promise<{ finished: boolean }> => {
    log.info('Stopping: finishing the batches in flight.');
    delivery.abandon();
    checks.stop();
    const finished = await endsWithin(FINISH_WITHIN_MS, wakeup.stop());
    pendingWork.stop();
    const closing = [wakeup.close(), heartbeat.settled(), http.stop(), queue.close(!finished)];
    await endsWithin(CLOSE_WITHIN_MS, Promise.allSettled(closing));
    await endsWithin(END_WITHIN_MS, pool.end());
    log.info(
      { finished },
      finished ? 'Stopped.' : 'Stopped before the batches were confirmed; the next worker applies them.',
    );
    return { finished };
  };
  return {
    url: http.url,
    readiness: currentReadiness,
    stop: () => {
      stopping ??= stop();
      return stopping;
    },
  };
}

/** A queue that fails delays only what is pending. */
async function queueWarnings(
  { failure }: Pick<QueueSupervisor, 'failure'>,
  counts: CachedQuery<PendingCounts>,
): Promise<string[]> {
  if (failure === null) return [];
  const { due = 0, later = 0 } = (await counts.latest())?.value ?? {};
  const waiting = due + later;
  return waiting === 0
    ? [failure.message]
    : [
        `${failure.message} ${waiting} ${waiting === 1 ? 'target waits' : 'targets wait'} for it in cache_invalidation.pending (sweeps, refused targets, second deletes); all others flow.`,
      ];
}

/** Runs a check. An error that may pass is reported; one that cannot is thrown. */
async function checkOrWait(
  check: () => Promise<unknown>,
  onError: (error: WorkerError) => void,
): Promise<void> {
  try {
    await check();
  } catch (error) {
    const reason = asWorkerError(error);
    if (isPermanent(reason) || reason.exitCode === ExitCode.internal) throw reason;
    onError(reason);
  }
}
