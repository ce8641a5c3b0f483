/**
 * What /readyz answers: whether invalidations flow, and if not, which part is in the way. A follower is ready when a
 * leader is alive, since then they flow too.
 */

import type { Flow } from '../delivery/health.ts';
import type { WorkerError } from '../lib/errors.ts';
import type { Role } from '../wakeup/leader-election.ts';
import type { DoorbellState } from '../wakeup/sleep-protocol.ts';

export interface Readiness {
  readonly ready: boolean;
  readonly role: Role;
  readonly doorbell: DoorbellState | null;
  readonly listening: boolean;
  /** Age in milliseconds of the oldest row of the last batch; 0 when the outbox was empty. */
  readonly lagMs: number;
  /** Milliseconds since the heartbeat was last confirmed by Redis. */
  readonly heartbeatAgeMs: number | null;
  /** One sentence a reason; empty when ready. */
  readonly reasons: readonly string[];
  /** What somebody should mend though invalidations flow, with the remedy. */
  readonly warnings: readonly string[];
}

/** The heartbeat key lives for 90 s; beyond two beats missed, readers are about to turn careful. */
const HEARTBEAT_LATE_MS = 70_000;

export interface ReadinessInput {
  readonly role: Role;
  readonly doorbell: DoorbellState | null;
  readonly listening: boolean;
  readonly heartbeatAgeMs: number | null;
  /** Why the last beat was not confirmed. */
  readonly heartbeatFailure: WorkerError | null;
  readonly flow: Flow;
  /** Asked only when following: whether the leader gives signs of life. */
  leaderAlive(): Promise<boolean>;
  readonly stopping: boolean;
  /** What the worker found by looking (self-checks/self-checks.ts). */
  readonly checks: { readonly reasons: readonly string[]; readonly warnings: readonly string[] };
}

export async function readiness(input: ReadinessInput): Promise<Readiness> {
  const { role, flow, heartbeatAgeMs } = input;
  const reasons: string[] = [...input.checks.reasons];
  if (input.stopping) reasons.push('The worker is stopping.');
  if (role === 'starting') reasons.push('No session with the database yet.');
  if (role === 'following' && !(await input.leaderAlive())) {
    reasons.push('This worker follows, and the leader gives no sign of life.');
  }
  if (role === 'leading' || role === 'contested') {
    if (flow.failure !== null) reasons.push(flow.failure.message);
    else if (flow.silentMs === null) reasons.push('The outbox has not been seen empty yet.');
    else if (!flow.flowing)
      reasons.push(`Invalidations lag ${Math.round(flow.lagMs / 1000)} s behind their writes.`);
    if (input.heartbeatFailure !== null && input.heartbeatFailure.message !== flow.failure?.message)
      reasons.push(input.heartbeatFailure.message);
    if (heartbeatAgeMs === null) reasons.push('The heartbeat has not been confirmed yet.');
    else if (heartbeatAgeMs > HEARTBEAT_LATE_MS)
      reasons.push('The heartbeat is late: readers trust young entries only.');
  }
  return {
    ready: reasons.length === 0,
    role,
    doorbell: input.doorbell,
    listening: input.listening,
    lagMs: Math.round(flow.lagMs),
    heartbeatAgeMs: heartbeatAgeMs === null ? null : Math.round(heartbeatAgeMs),
    reasons,
    warnings: input.checks.warnings,
  };
}
