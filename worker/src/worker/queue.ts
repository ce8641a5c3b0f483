/** Wires the queue: where its jobs are kept, what each kind does, and what runs on a schedule. */
import type pg from 'pg';
import { explainDatabaseError } from '../db/errors.ts';
import type { Pending } from '../db/pending.ts';
import { type AuditParts, audit } from '../diagnostics/audit/audit.ts';
import type { Configuration } from '../lib/config.ts';
import { describe, type WorkerError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { openBackend } from '../queue/backend.ts';
import { PendingWork } from '../queue/pending-work.ts';
import { QueueSupervisor } from '../queue/supervisor.ts';
import { WorkQueue } from '../queue/work-queue.ts';
import { TokenBucket } from '../redis/token-bucket.ts';
import type { CacheServer } from '../redis/upstash.ts';

/** Entries that one scheduled audit compares. */
const AUDIT_SAMPLE = 200;

export interface QueueParts {
  readonly configuration: Pick<
    Configuration,
    'databaseUrl' | 'queueRedisUrl' | 'replicaLagMs' | 'auditIntervalMs'
  >;
  readonly cache: CacheServer;
  readonly pool: pg.Pool;
  readonly pending: Pending;
  readonly log: Log;
  startEpoch(): Promise<void>;
  onError(error: WorkerError): void;
  onAnswer(): void;
}

export function createQueue(parts: QueueParts): { queue: QueueSupervisor; pendingWork: PendingWork } {
  const { configuration, cache, pool, pending, log, startEpoch, onError, onAnswer } = parts;
  const { replicaLagMs, auditIntervalMs } = configuration;
  // BullMQ emits every connection error that it recovers from by itself. Others fail a call.
  const onConnectionError = (error: Error) => log.debug({ error: describe(error) }, 'queue');
  const pendingWork = new PendingWork({
    cache,
    tokens: new TokenBucket(),
    startEpoch,
    pending,
    replicaLagMs,
    add: (delayMs) => queue.use((open) => open.look(delayMs)),
    onError: (error) => onError(explainDatabaseError(error, configuration.databaseUrl)),
  });
  const queue: QueueSupervisor = new QueueSupervisor({
    open: () => new WorkQueue(openBackend(configuration, onConnectionError), onConnectionError),
    processors: () => ({
      pending: () => pendingWork.run(),
      audit: async (job) => {
        try {
          await scheduledAudit({ cache, pool }, log, job.sample);
        } catch (error) {
          throw explainDatabaseError(error, configuration.databaseUrl);
        }
      },
      prune: () => queue.use((jobs) => jobs.prune()),
    }),
    schedule: async (jobs) => {
      await jobs.schedule(auditIntervalMs, AUDIT_SAMPLE);
      // What is pending since before this term, or since the queue was away.
      await jobs.look();
    },
    onError,
    onAnswer,
  });
  return { queue, pendingWork };
}

/** `fencepost status` shows the result; a stale answer is an error in the log. */
async function scheduledAudit(parts: AuditParts, log: Log, sample: number): Promise<void> {
  const { compared, stale } = await audit(parts, sample);
  if (stale.length === 0) log.info({ compared }, `Audit: ${compared} entries compared, none stale.`);
  else {
    log.error(
      { compared, stale: stale.slice(0, 20) },
      `Audit: ${stale.length} of ${compared} entries are stale; see "fencepost doctor".`,
    );
  }
}
