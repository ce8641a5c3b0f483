/**
 * The drain with what surrounds it: the heartbeat that beats while it flows, the backlog that is settled when it is too
 * large, the report for people, the vacuum after many deletions, the record of what it all costs.
 */

import { explainDatabaseError } from '../db/errors.ts';
import { OutboxVacuum } from '../db/vacuum.ts';
import { settleBacklog } from '../delivery/backlog.ts';
import { Heartbeat } from '../delivery/heartbeat.ts';
import { Drain } from '../delivery/loop.ts';
import { Report } from '../delivery/report.ts';
import type { WorkerError } from '../lib/errors.ts';
import { CommandRecord } from '../metrics/command-record.ts';
import { QueueBuffer } from '../queue/buffer.ts';
import type { QueueSupervisor } from '../queue/supervisor.ts';
import { Allowance } from '../redis/token-bucket.ts';
import type { DrainOutcome } from '../wakeup/sleep-protocol.ts';
import type { Context } from './context.ts';

export interface Draining {
  readonly heartbeat: Heartbeat;
  /** Until the outbox is empty, or applying fails. Never rejects. */
  drain(): Promise<DrainOutcome>;
  /** A new term of leadership: nothing that was known counts any more. */
  beginTerm(): void;
  /** No further page is begun. */
  abandon(): void;
  /** Nothing is handed to the queue any more; what waits for it stays in the outbox. */
  close(): void;
  /** @param call called when a drain would find rows that nobody rings for */
  onMore(call: () => void): void;
  /** What waits though invalidations flow, one sentence each. */
  readonly warnings: readonly string[];
}

/** Targets of one page that are named in the log. */
const LINES_A_PAGE = 20;

export function createHeartbeat(context: Context): Heartbeat {
  const { configuration, cache, outbox, flow, log, metrics, onTrouble } = context;
  return new Heartbeat({
    cache,
    outbox,
    flow,
    intervalMs: configuration.heartbeatIntervalMs,
    onTrouble,
    onNewEpoch: (reason) => {
      metrics.epochs.inc();
      log.info({ reason }, `New epoch: the whole cache is invalidated (${reason}).`);
    },
  });
}

export function createDraining(context: Context, heartbeat: Heartbeat, queue: QueueSupervisor): Draining {
  const { configuration, log, metrics, trouble, pool, outbox, onTrouble } = context;
  let wake: () => void = () => undefined;
  const tidy = new OutboxVacuum(pool);
  const record = new CommandRecord(context.cache, () => metrics.commandCount);
  const report = new Report(log, configuration.logFormat === 'pretty', () => outbox.watchedTables());
  const widened = new Set<number | null>();
  const queueBuffer = new QueueBuffer({
    add: (requests) => queue.use((open) => open.add(requests)),
    acknowledge: async (rows, rests) => {
      try {
        await outbox.acknowledge(rows, rests);
      } catch (error) {
        throw explainDatabaseError(error, configuration.databaseUrl);
      }
    },
    onMissed: () => {
      drain.forget();
      wake();
    },
    onTrouble,
  });
  const drain: Drain = new Drain({
    ...context,
    queueBuffer,
    replicaLagMs: configuration.replicaLagMs,
    isolating: new Allowance(),
    databaseUrl: configuration.databaseUrl,
    startEpoch: () => heartbeat.startEpoch('asked for by the target *'),
    onConfirmed: (batch) => {
      // The line first: people see it sooner, and bench/worker/latency.ts takes its time from it.
      report.confirmed(batch);
      metrics.batch(batch);
      tidy.deleted(batch.rows.length);
      // Under steady load the outbox may not be seen empty for long; fresh batches are as good a sign.
      heartbeat.poke();
    },
    onWidened: ({ watchId, target, error }) => {
      if (widened.has(watchId)) return;
      widened.add(watchId);
      log.warn(
        { target, sqlstate: error, watchId },
        `Writes to a watched table invalidate the whole of ${target} (${error}): select * from cache_invalidation.problems() says why and what to do.`,
      );
    },
    onSetAside: ({ refused, undecided, sweeps }) => {
      metrics.refused.inc(refused.size);
      for (const [target, failure] of [...refused].slice(0, LINES_A_PAGE)) {
        log.warn(
          { target, code: failure.code },
          `Redis refuses ${target}; it is retried apart. ${failure.message}`,
        );
      }
      const unsaid = Math.max(0, refused.size - LINES_A_PAGE);
      if (unsaid > 0)
        log.warn({ targets: unsaid }, `Redis refuses ${unsaid} more targets; they are retried apart.`);
      if (undecided.length > 0) {
        log.warn(
          { targets: undecided.length },
          `Redis refuses some of ${undecided.length} targets; which ones is found out apart, a few requests a second.`,
        );
      }
      for (const target of sweeps.slice(0, LINES_A_PAGE)) {
        log.info(
          { target },
          `Sweeping ${target}: no fence covers this pattern, so the queue goes through the keys.`,
        );
      }
    },
  });
  // A new connection may lead to another server, where the drain's position means nothing.
  pool.on('connect', () => drain.forget());

  // Looked at when a term begins and after every failure: that is when a backlog can have grown.
  let backlogChecked = false;
  const settle = async (): Promise<void> => {
    if (backlogChecked) return;
    const rows = await settleBacklog({
      outbox,
      rowsMost: configuration.backlogRows,
      ageMostMs: configuration.backlogAgeMs,
      replicaLagMs: configuration.replicaLagMs,
      startEpoch: (reason) => heartbeat.startEpoch(reason),
    });
    backlogChecked = true;
    if (rows > 0) log.warn({ rows }, `A backlog of ${rows} rows was settled by a new epoch.`);
  };

  return {
    heartbeat,
    async drain() {
      try {
        await settle();
      } catch (error) {
        return drain.failed(error);
      }
      const outcome = await drain.untilEmpty();
      // An outbox that was empty says nothing of Redis; a beat that failed does.
      if (outcome.retryInMs !== null) backlogChecked = false;
      else if (heartbeat.failure === null) trouble.over();
      heartbeat.poke();
      if (heartbeat.failure === null) record.poke();
      return outcome;
    },
    beginTerm() {
      backlogChecked = false;
      drain.forget();
      heartbeat.forget();
      void report.refresh();
    },
    abandon: () => drain.abandon(),
    close: () => queueBuffer.stop(),
    onMore: (call) => {
      wake = call;
    },
    get warnings() {
      return waitingForQueue(queueBuffer, queue.failure);
    },
  };
}

/** A queue in trouble holds up only what needs it; readiness says what that is. */
function waitingForQueue(
  { rows, missed, failing }: Pick<QueueBuffer, 'rows' | 'missed' | 'failing'>,
  failure: WorkerError | null,
): string[] {
  if (failure === null && !failing) return [];
  const said = failure?.message ?? 'The queue takes nothing over; trying again.';
  if (rows === 0) return [said];
  const count = `${missed ? 'More than ' : ''}${rows} ${rows === 1 ? 'row waits' : 'rows wait'}`;
  return [
    `${said} ${count} for it in the outbox (sweeps, refused targets, second deletes); all others flow.`,
  ];
}
