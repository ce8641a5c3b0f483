/**
 * Wires delivery: the loop, the heartbeat that beats while it succeeds, the backlog check, the log, the vacuum and the record
 * of commands.
 */
import type pg from 'pg';
import type { Outbox } from '../db/outbox.ts';
import type { Pending } from '../db/pending.ts';
import { openConnections } from '../db/pool.ts';
import { OutboxVacuum } from '../db/vacuum.ts';
import { settleBacklog } from '../delivery/backlog.ts';
import type { ErrorLog } from '../delivery/error-log.ts';
import type { DeliveryHealth } from '../delivery/health.ts';
import type { Heartbeat } from '../delivery/heartbeat.ts';
import { DeliveryLoop } from '../delivery/loop.ts';
import { Report } from '../delivery/report.ts';
import type { Configuration } from '../lib/config.ts';
import type { WorkerError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { CommandRecord } from '../metrics/command-record.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { PendingWork } from '../queue/pending-work.ts';
import type { Applied } from '../redis/apply.ts';
import { TokenBucket } from '../redis/token-bucket.ts';
import type { CacheServer } from '../redis/upstash.ts';
import type { DeliveryOutcome } from '../wakeup/sleep-protocol.ts';

export interface Delivery {
  /** Until the outbox is empty, or applying fails. Never rejects. */
  deliver(): Promise<DeliveryOutcome>;
  readonly beatDueInMs: number;
  /** A new term of leadership: everything cached is out of date. */
  beginTerm(): void;
  /** Starts no further batch. */
  abandon(): void;
}

export interface DeliveryParts {
  readonly configuration: Pick<
    Configuration,
    'databaseUrl' | 'replicaLagMs' | 'backlogRows' | 'backlogAgeMs' | 'logFormat'
  >;
  readonly cache: CacheServer;
  readonly pool: pg.Pool;
  readonly outbox: Outbox;
  readonly pending: Pending;
  readonly health: DeliveryHealth;
  readonly heartbeat: Heartbeat;
  /** For the target `*`; resolves when Redis has the epoch. */
  startEpoch(): Promise<void>;
  readonly pendingWork: PendingWork;
  readonly log: Log;
  readonly errors: ErrorLog;
  readonly metrics: Metrics;
  onError(error: WorkerError): void;
}

/** Targets of one batch that the log names. */
const MAX_LINES_PER_BATCH = 20;

export function createDelivery(parts: DeliveryParts): Delivery {
  const {
    configuration,
    cache,
    pool,
    outbox,
    pending,
    pendingWork,
    health,
    heartbeat,
    log,
    errors,
    metrics,
  } = parts;
  const { databaseUrl, replicaLagMs } = configuration;
  const vacuum = new OutboxVacuum(pool);
  const record = new CommandRecord(cache, () => metrics.commandCount);
  const report = new Report(log, configuration.logFormat === 'pretty', () => outbox.watchedTables());
  const widened = new Set<number | null>();
  const loop: DeliveryLoop = new DeliveryLoop({
    cache,
    outbox,
    pending,
    health,
    pendingWork,
    replicaLagMs,
    tokens: new TokenBucket(),
    databaseUrl,
    startEpoch: parts.startEpoch,
    onConfirmed: (batch) => {
      // The log line first: people see it sooner, and bench/worker/latency.ts measures it.
      report.confirmed(batch);
      metrics.batch(batch);
      // Under steady load the outbox may never be seen empty.
      heartbeat.beatIfDue();
    },
    onAcknowledged: (rows) => {
      metrics.acknowledged(rows);
      vacuum.deleted(rows);
    },
    onWidened: ({ watchId, target, error }) => {
      if (widened.has(watchId)) return;
      widened.add(watchId);
      log.warn(
        { target, sqlstate: error, watchId },
        `Writes to a watched table invalidate the whole of ${target} (${error}): select * from cache_invalidation.problems() says why and what to do.`,
      );
    },
    onPassedToQueue: (applied) => {
      metrics.refused.inc(applied.refused.size);
      logPassedToQueue(log, applied);
    },
    onError: parts.onError,
  });
  // A new connection may lead to another server, where the loop's position means nothing.
  pool.on('connect', () => loop.reset());

  // A backlog can have grown before a term begins and during every failure.
  let backlogChecked = false;
  const checkBacklog = async (): Promise<void> => {
    if (backlogChecked) return;
    // Opened now, so that the second one does not reset the loop in the midst of a burst and run its targets twice.
    await openConnections(pool);
    const rows = await settleBacklog({
      outbox,
      maxRows: configuration.backlogRows,
      maxAgeMs: configuration.backlogAgeMs,
      replicaLagMs,
      startEpoch: (reason) => heartbeat.startEpoch(reason),
    });
    backlogChecked = true;
    if (rows > 0) log.warn({ rows }, `A backlog of ${rows} rows was settled by a new epoch.`);
  };

  return {
    async deliver() {
      try {
        await checkBacklog();
      } catch (error) {
        return loop.failed(error);
      }
      const outcome = await loop.untilEmpty();
      // An empty outbox says nothing about Redis; a failed beat does.
      if (outcome.retryInMs !== null) backlogChecked = false;
      else if (heartbeat.failure === null) errors.over();
      heartbeat.beatIfDue();
      if (heartbeat.failure === null) record.writeIfDue();
      return outcome;
    },
    get beatDueInMs() {
      return heartbeat.dueInMs;
    },
    beginTerm() {
      backlogChecked = false;
      loop.reset();
      heartbeat.reset();
      void report.refresh();
    },
    abandon: () => loop.abandon(),
  };
}

function logPassedToQueue(log: Log, { refused, undecided, sweeps }: Applied): void {
  for (const [target, { code, message }] of [...refused].slice(0, MAX_LINES_PER_BATCH))
    log.warn({ target, code }, `Redis refuses ${target}; the queue retries it. ${message}`);
  const unnamed = refused.size - MAX_LINES_PER_BATCH;
  if (unnamed > 0)
    log.warn({ targets: unnamed }, `Redis refuses ${unnamed} more targets; the queue retries them.`);
  if (undecided.length > 0) {
    log.warn(
      { targets: undecided.length },
      `Redis refuses some of ${undecided.length} targets; the queue finds out which, with a few requests a second.`,
    );
  }
  for (const target of sweeps.slice(0, MAX_LINES_PER_BATCH))
    log.info(
      { target },
      `Sweeping ${target}: no fence covers this pattern, so the queue goes through the keys.`,
    );
}
