/**
 * The worker put together, from the doorbell to the DEL:
 *
 *     Listener ─ ring ─▶ Leadership ▶ Doorbell ─ drain ─▶ Drain ▶ apply ▶ Redis
 *     (doorbell/bell.ts)   (lock S)     (lock K)            │        Heartbeat (while it flows; drain/draining.ts)
 *                                                           └─▶ Queue (what is not instant; queue/queueing.ts)
 *
 * Connections to Postgres: one listens, one holds the locks, two drain, two are the queue's; six at most.
 */

import { explainDatabaseError, isPermanent } from '../db/errors.ts';
import { leaderIsAlive } from '../db/lock-holders.ts';
import { Outbox } from '../db/outbox.ts';
import { drainPool } from '../db/pool.ts';
import { checkDatabase } from '../db/preconditions.ts';
import { type Part, Trouble } from '../delivery/error-log.ts';
import { Flow, stallAfter } from '../delivery/health.ts';
import { createOverview } from '../http/dashboard/overview.ts';
import { type Readiness, readiness } from '../http/readiness.ts';
import { startHttpServer } from '../http/server.ts';
import { CachedQuery } from '../lib/cached-query.ts';
import type { Configuration } from '../lib/config.ts';
import { asWorkerError, ExitCode, WorkerError } from '../lib/errors.ts';
import { createLog, type Log } from '../lib/log.ts';
import { Metrics } from '../metrics/metrics.ts';
import { createScrape } from '../metrics/scrape.ts';
import { PROBE_KEY } from '../redis/apply.ts';
import { connectUpstash } from '../redis/upstash.ts';
import type { Context } from './context.ts';
import { createDraining, createHeartbeat } from './delivery.ts';
import { createQueue } from './queue.ts';
import { createSelfChecks } from './self-checks.ts';
import { createBell } from './wakeup.ts';

export interface RunningWorker {
  /** Where the dashboard, /healthz, /readyz and /metrics are. */
  readonly url: string;
  readiness(): Promise<Readiness>;
  /**
   * Stops: the batch in hand is finished, at most 4 s are waited for it, then everything is closed.
   *
   * @returns whether the batch was finished; if not, its rows stay in the outbox for the next worker
   */
  stop(): Promise<{ finished: boolean }>;
}

/** Together below the 5 s that a stopping worker may take. */
const FINISH_WITHIN_MS = 3_800;
const CLOSE_WITHIN_MS = 600;
const END_WITHIN_MS = 200;

/** /readyz and /metrics answer while the database does not. */
const LOOK_WITHIN_MS = 1_000;

/**
 * Starts a worker in this process.
 *
 * A database or a Redis that is away is waited for; what no waiting mends is thrown.
 *
 * @param signal gives up a start that is under way
 * @throws WorkerError when the set-up is wrong: port taken, credentials refused, migrations missing, transaction pooler;
 *   STOPPED when the signal came first
 */
export async function startWorker(
  configuration: Configuration,
  log: Log = createLog(configuration),
  signal?: AbortSignal,
): Promise<RunningWorker> {
  let stopping: Promise<{ finished: boolean }> | null = null;
  const context = createContext(configuration, log, () => stopping !== null);
  const { metrics, flow, cache, pool, onTrouble } = context;
  const heartbeat = createHeartbeat(context);
  const queue = createQueue(context, heartbeat);
  const draining = createDraining(context, heartbeat, queue);
  const bell = createBell(context, draining, queue);
  const checks = createSelfChecks(context, bell);
  const scrape = createScrape(context, queue, () => bell.role);

  // However many look at a follower.
  const leader = new CachedQuery(() => leaderIsAlive(pool), {
    freshMs: LOOK_WITHIN_MS,
    waitMs: LOOK_WITHIN_MS,
  });

  const currentReadiness = async (): Promise<Readiness> => {
    const result = await readiness({
      role: bell.role,
      doorbell: bell.state,
      listening: bell.listening,
      heartbeatAgeMs: heartbeat.ageMs,
      heartbeatFailure: heartbeat.failure,
      flow,
      stopping: stopping !== null,
      leaderAlive: async () => {
        const read = await leader.latest();
        return read?.value === true && Date.now() - read.at < 3 * LOOK_WITHIN_MS;
      },
      checks: { reasons: checks.reasons, warnings: [...checks.warnings, ...draining.warnings] },
    });
    metrics.ready.set(result.ready ? 1 : 0);
    return result;
  };
  const http = await startHttpServer({
    host: configuration.host,
    port: configuration.port,
    readiness: currentReadiness,
    metrics: async () => {
      await Promise.all([scrape(), currentReadiness()]);
      return metrics.text();
    },
    onTrouble,
    overview: createOverview(context, queue, () => bell.role, currentReadiness),
  });

  const check = async (): Promise<void> => {
    await checkOrWait(() => checkDatabase(configuration.databaseUrl), onTrouble);
    // A DEL of a key that never exists: the one right that the worker cannot do without.
    await checkOrWait(() => cache.del([PROBE_KEY]), onTrouble);
  };
  try {
    await unlessAborted(check(), signal);
  } catch (error) {
    await within(CLOSE_WITHIN_MS, Promise.allSettled([http.stop(), pool.end()]));
    throw error;
  }

  bell.start();
  checks.start();
  log.info({ url: http.url }, `Fencepost's worker is up: ${http.url}/readyz`);

  const stop = async (): Promise<{ finished: boolean }> => {
    log.info('Stopping: finishing the batch in hand.');
    draining.abandon();
    checks.stop();
    const finished = await within(FINISH_WITHIN_MS, bell.stop());
    draining.close();
    const closing = [bell.close(), heartbeat.settled(), http.stop(), queue.close(!finished)];
    await within(CLOSE_WITHIN_MS, Promise.allSettled(closing));
    await within(END_WITHIN_MS, pool.end());
    log.info(
      { finished },
      finished ? 'Stopped.' : 'Stopped before the batch was confirmed; the next worker applies it.',
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

function createContext(configuration: Configuration, log: Log, isStopping: () => boolean): Context {
  const metrics = new Metrics();
  const trouble = new Trouble(log);
  const onTrouble = (error: WorkerError, of?: Part) => {
    if (isStopping()) return;
    metrics.troubles.inc({ code: error.code });
    trouble.report(error, of);
  };
  const url = configuration.databaseUrl;
  const pool = drainPool(url, (error) => onTrouble(explainDatabaseError(error, url)));
  return {
    configuration,
    log,
    metrics,
    trouble,
    flow: new Flow(undefined, stallAfter(configuration.fallbackPollMs)),
    cache: connectUpstash(configuration, (command) => metrics.command(command)),
    pool,
    outbox: new Outbox(pool),
    onTrouble,
  };
}

/** Runs a check: what waiting may mend is reported and passes, what it cannot mend is thrown. */
async function checkOrWait(
  check: () => Promise<unknown>,
  onTrouble: (error: WorkerError) => void,
): Promise<void> {
  try {
    await check();
  } catch (error) {
    const reason = asWorkerError(error);
    if (isPermanent(reason) || reason.exitCode === ExitCode.internal) throw reason;
    onTrouble(reason);
  }
}

/** Whether the work ended in time. */
async function within(ms: number, work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, ms, false);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** @throws WorkerError STOPPED at once when the signal comes before the work has ended */
async function unlessAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return await work;
  let stop: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    stop = () =>
      reject(new WorkerError('STOPPED', 'Stopped before it had started.', { exitCode: ExitCode.ok }));
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
  try {
    await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
