/** The queue of one worker: where its jobs are kept, what each kind does, and what runs by the clock. */

import type { Heartbeat } from '../delivery/heartbeat.ts';
import { type AuditParts, audit } from '../diagnostics/audit/audit.ts';
import { describe } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { openBackend } from '../queue/backend.ts';
import { createProcessors } from '../queue/processors.ts';
import { QueueSupervisor } from '../queue/supervisor.ts';
import { WorkQueue } from '../queue/work-queue.ts';
import { Allowance } from '../redis/token-bucket.ts';
import type { Context } from './context.ts';

/** Entries compared in one scheduled audit. */
const AUDIT_SAMPLE = 200;

export function createQueue(context: Context, heartbeat: Heartbeat): QueueSupervisor {
  const { configuration, cache, pool, log, trouble, onTrouble } = context;
  const isolating = new Allowance();
  // BullMQ reports every hiccup of a connection that it mends by itself; what it cannot mend fails a call.
  const hiccup = (error: Error) => log.debug({ error: describe(error) }, 'queue');
  const queue = new QueueSupervisor({
    open: () => new WorkQueue(openBackend(configuration, hiccup), hiccup),
    processors: () =>
      createProcessors({
        cache,
        replicaLagMs: configuration.replicaLagMs,
        isolating,
        startEpoch: () => heartbeat.startEpoch('asked for by the target *'),
        audit: (job) => scheduledAudit({ cache, pool }, log, job.sample),
        prune: () => queue.use((jobs) => jobs.prune()),
        add: (requests) => queue.use((open) => open.add(requests)),
      }),
    schedule: (jobs) => jobs.schedule(configuration.auditIntervalMs, AUDIT_SAMPLE),
    onTrouble,
    onAnswer: () => trouble.over('queue'),
  });
  return queue;
}

/** Its result is kept for `fencepost status`; a stale answer is an error in the log. */
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
