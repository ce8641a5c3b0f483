/**
 * The worker put together, from the doorbell to the DEL:
 *
 *     Listener ─ ring ─▶ Leadership ▶ Doorbell ─ drain ─▶ Drain ▶ apply ▶ Redis
 *                          (lock S)     (lock K)            │        Heartbeat (while it flows)
 *                                                           └─▶ Queue (what is not instant)
 *
 * Connections to Postgres: one listens, one holds the locks, two drain, two are the queue's; six at most.
 */

import { connectUpstash } from './apply/upstash.ts';
import { UpstashFailure } from './apply/upstash-errors.ts';
import { type AuditParts, audit } from './audit/audit.ts';
import type { Configuration } from './configuration.ts';
import { drainPool } from './database/connections.ts';
import { explainDatabaseError, isPermanent } from './database/database-errors.ts';
import { checkDatabase } from './database/preconditions.ts';
import type { DoorbellState, DrainOutcome } from './doorbell/doorbell.ts';
import { Echo } from './doorbell/echo.ts';
import { lockHolders } from './doorbell/holders.ts';
import { Leadership, type Role } from './doorbell/leadership.ts';
import { Listener } from './doorbell/listener.ts';
import { settleBacklog } from './drain/backlog.ts';
import { Drain } from './drain/drain.ts';
import { Flow } from './drain/flow.ts';
import { Outbox } from './drain/outbox.ts';
import { Report } from './drain/report.ts';
import { Tidy } from './drain/tidy.ts';
import { asWorkerError, describe, type WorkerError } from './errors.ts';
import { ExitCode } from './exit-codes.ts';
import { Heartbeat } from './heartbeat/heartbeat.ts';
import { type Readiness, readiness } from './http/readiness.ts';
import { startHttpServer } from './http/server.ts';
import { createLog, type Log } from './log.ts';
import { Metrics } from './metrics/metrics.ts';
import { openBackend } from './queue/backend.ts';
import { createProcessors } from './queue/processors.ts';
import { QueueLife } from './queue/queue-life.ts';
import { WorkQueue } from './queue/work-queue.ts';
import { Trouble } from './trouble.ts';

export interface RunningWorker {
  /** Where /healthz, /readyz and /metrics are. */
  readonly url: string;
  readiness(): Promise<Readiness>;
  /**
   * Stops: the batch in hand is finished, at most 4 s are waited for it, then everything is closed.
   *
   * @returns whether the batch was finished; if not, its rows stay in the outbox for the next worker
   */
  stop(): Promise<{ finished: boolean }>;
}

const ROLE_LINES: Readonly<Record<Exclude<Role, 'starting'>, string>> = {
  leading: 'This worker leads: it drains the outbox.',
  following: 'Another worker leads: standing by.',
  contested: 'This worker drains without the leadership lock, which a stranger holds.',
};

/** Entries compared in one audit. */
const AUDIT_SAMPLE = 200;

/** Below the 5 s that a stopping worker may take in all. */
const FINISH_WITHIN_MS = 4_000;

/**
 * Starts a worker in this process.
 *
 * A database or a Redis that is away is waited for; what no waiting mends is thrown.
 *
 * @throws WorkerError when the set-up is wrong: port taken, credentials refused, migrations missing, transaction pooler
 */
export async function startWorker(
  configuration: Configuration,
  log: Log = createLog(configuration),
): Promise<RunningWorker> {
  const { databaseUrl, cachePrefix: prefix } = configuration;
  const metrics = new Metrics();
  const trouble = new Trouble(log);
  const flow = new Flow();
  let role: Role = 'starting';
  let state: DoorbellState | null = null;
  let stopping: Promise<{ finished: boolean }> | null = null;

  const onTrouble = (error: WorkerError) => {
    if (stopping !== null) return;
    metrics.troubles.inc({ code: error.code });
    trouble.report(error);
  };
  const cache = connectUpstash(configuration, (command) => metrics.command(command));
  const pool = drainPool(databaseUrl, (error) => onTrouble(explainDatabaseError(error, databaseUrl)));
  const outbox = new Outbox(pool);
  const report = new Report(log, configuration.logFormat === 'pretty', () => outbox.watchedTables());

  const heartbeat = new Heartbeat({
    cache,
    outbox,
    prefix,
    flow,
    intervalMs: configuration.heartbeatIntervalMs,
    log,
    onTrouble,
    onNewEpoch: (reason) => {
      metrics.epochs.inc();
      log.info({ reason }, `New epoch: the whole cache is invalidated (${reason}).`);
    },
  });

  const drain = new Drain({
    outbox,
    flow,
    cache,
    prefix,
    databaseUrl,
    startEpoch: () => heartbeat.startEpoch('asked for by the target *'),
    onTrouble,
    onConfirmed: (batch) => {
      tidy.deleted(batch.rows.length);
      metrics.batch(batch);
      report.confirmed(batch);
    },
    onWidened: (row) =>
      log.warn(
        { target: row.target, sqlstate: row.error },
        `A value of a watched table could not be made a key (${row.error}): ${row.target} is invalidated instead.`,
      ),
    confirmedOnce: async (targets) => {
      if (configuration.replicaLagMs === 0) return;
      await queue.use((jobs) => jobs.addSecondDelete(targets, configuration.replicaLagMs));
    },
    setAside: async (target, failure) => {
      metrics.refused.inc();
      log.warn(
        { target, code: failure.code },
        `Redis refuses the target ${target}; retrying it apart. ${failure.message}`,
      );
      await queue.use((jobs) => jobs.addRetry(target, failure.code));
    },
    sweep: (target) => queue.use((jobs) => jobs.addSweep(target)),
  });
  // A new connection may lead to another server, where the drain's position means nothing.
  pool.on('connect', () => drain.forget());

  const queue: QueueLife = new QueueLife({
    open: () =>
      new WorkQueue(
        openBackend(configuration, (error) => log.debug({ error: describe(error) }, 'queue')),
        (error) => log.debug({ error: describe(error) }, 'queue'),
      ),
    processors: () =>
      createProcessors({
        cache,
        prefix,
        startEpoch: () => heartbeat.startEpoch('asked for by the target *'),
        audit: (job) => auditNow({ cache, pool, prefix, log }, job.sample),
        prune: () => queue.use((jobs) => jobs.prune()),
        addSweep: (pattern) => queue.use((jobs) => jobs.addSweep(pattern)),
      }),
    schedule: (jobs) => jobs.schedule(configuration.auditIntervalMs, AUDIT_SAMPLE),
    onTrouble,
  });
  const tidy = new Tidy(pool);

  const listener = new Listener(databaseUrl, {
    ring: (payload) => {
      metrics.rings.inc();
      echo.heard(payload);
      leadership.ring();
    },
    change: (listening, error) => {
      if (!listening) metrics.reconnects.inc();
      if (error !== undefined) onTrouble(explainDatabaseError(error, databaseUrl));
      leadership.disturb();
      // Heard nothing after a LISTEN that succeeded: the sign of a transaction pooler.
      if (listening) void echo.test();
    },
  });
  const echo = new Echo({
    pool,
    onDeaf: (error) => {
      onTrouble(error);
      listener.renew(error);
    },
  });

  // Looked at when a term begins and after every failure: that is when a backlog can have grown.
  let backlogChecked = false;
  const drainOnce = async (): Promise<DrainOutcome> => {
    if (!backlogChecked) {
      try {
        const rows = await settleBacklog({
          outbox,
          rowsMost: configuration.backlogRows,
          ageMostMs: configuration.backlogAgeMs,
          startEpoch: (reason) => heartbeat.startEpoch(reason),
        });
        backlogChecked = true;
        if (rows > 0) log.warn({ rows }, `A backlog of ${rows} rows was settled by a new epoch.`);
      } catch (error) {
        return drain.failed(error);
      }
    }
    const outcome = await drain.untilEmpty();
    if (outcome.retryInMs !== null) backlogChecked = false;
    else trouble.over();
    return outcome;
  };

  const leadership = new Leadership({
    url: databaseUrl,
    pool,
    log,
    doorbell: {
      listener,
      fallbackPollMs: configuration.fallbackPollMs,
      drain: async () => {
        const outcome = await drainOnce();
        heartbeat.poke();
        return outcome;
      },
      onState: (next) => {
        state = next;
        if (next === 'asleep') metrics.sleeps.inc();
        log.debug({ state: next }, `doorbell: ${next}`);
      },
      onUnrung: (rows) => {
        metrics.unrung.inc(rows);
        void echo.test();
      },
    },
    onRole: (next) => {
      if (next === role) return;
      role = next;
      state = null;
      metrics.leading.set(next === 'leading' || next === 'contested' ? 1 : 0);
      flow.forget();
      // Between two sessions the queue's work goes on; its jobs need no leader.
      if (next === 'starting') return;
      heartbeat.forget();
      drain.forget();
      backlogChecked = false;
      if (next === 'following') queue.follow();
      else queue.lead();
      void report.refresh();
      log.info({ role: next }, ROLE_LINES[next]);
    },
    onTrouble: (error) => {
      metrics.reconnects.inc();
      flow.failed(error);
      onTrouble(error);
    },
  });

  const currentReadiness = async (): Promise<Readiness> => {
    const result = await readiness({
      role,
      doorbell: state,
      listening: listener.listening,
      heartbeatAgeMs: heartbeat.ageMs,
      flow,
      stopping: stopping !== null,
      leaderAlive: async () => {
        try {
          const leader = (await lockHolders(pool)).find((holder) => holder.lock === 'S');
          return leader !== undefined && leader.silentMs < 6_000;
        } catch {
          return false;
        }
      },
    });
    metrics.ready.set(result.ready ? 1 : 0);
    return result;
  };

  const http = await startHttpServer({
    host: configuration.host,
    port: configuration.port,
    readiness: currentReadiness,
    metrics: () => metrics.text(),
  });

  try {
    await checkOrWait(() => checkDatabase(databaseUrl), onTrouble);
    // A DEL of a key that never exists: the one right that the worker cannot do without.
    await checkOrWait(() => cache.del([`${prefix}fencepost:probe`]), onTrouble);
  } catch (error) {
    await Promise.allSettled([http.stop(), pool.end()]);
    throw error;
  }

  listener.start();
  leadership.start();
  log.info({ url: http.url }, `Fencepost's worker is up: ${http.url}/readyz`);

  const stop = async (): Promise<{ finished: boolean }> => {
    log.info('Stopping: finishing the batch in hand.');
    drain.abandon();
    const finished = await within(FINISH_WITHIN_MS, leadership.stop());
    await within(
      700,
      Promise.allSettled([listener.close(), heartbeat.settled(), http.stop(), queue.close(!finished)]),
    );
    await within(200, pool.end());
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

/** A scheduled audit: its result is kept for `fencepost status`, a stale answer is an error in the log. */
async function auditNow({ log, ...parts }: AuditParts & { log: Log }, sample: number): Promise<void> {
  const result = await audit(parts, sample);
  const { compared, stale } = result;
  if (stale.length === 0) log.info({ compared }, `Audit: ${compared} entries compared, none stale.`);
  else
    log.error(
      { compared, stale: stale.slice(0, 20) },
      `Audit: ${stale.length} of ${compared} entries are stale; see "fencepost doctor".`,
    );
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
    const denied = reason instanceof UpstashFailure && reason.exitCode === ExitCode.denied;
    if (isPermanent(reason) || denied || reason.exitCode === ExitCode.internal) throw reason;
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
