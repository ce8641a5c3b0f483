/**
 * The answer of /readyz: whether invalidations flow, and if not, why. A follower is ready while a leader is alive, because
 * they flow then too.
 */

import type { DeliveryHealth } from '../delivery/health.ts';
import type { WorkerError } from '../lib/errors.ts';
import type { Role } from '../wakeup/leader-election.ts';
import type { SleepState } from '../wakeup/sleep-protocol.ts';

export interface Readiness {
  readonly ready: boolean;
  readonly role: Role;
  readonly doorbell: SleepState | null;
  readonly listening: boolean;
  /** Age in milliseconds of the oldest row of the last batch; 0 when the outbox was empty. */
  readonly lagMs: number;
  /** Milliseconds since the heartbeat was last confirmed by Redis. */
  readonly heartbeatAgeMs: number | null;
  /** One sentence each; empty when ready. */
  readonly reasons: readonly string[];
  /** What somebody should repair although invalidations flow, with the remedy. */
  readonly warnings: readonly string[];
}

/** The heartbeat key expires after 90 s. After two missed beats, readers are about to accept young entries only. */
const HEARTBEAT_LATE_MS = 70_000;

export interface ReadinessInput {
  readonly role: Role;
  readonly doorbell: SleepState | null;
  readonly listening: boolean;
  readonly heartbeatAgeMs: number | null;
  /** Why the last beat was not confirmed. */
  readonly heartbeatFailure: WorkerError | null;
  readonly health: DeliveryHealth;
  /** Whether the leader gives signs of life. Called only while this worker follows. */
  leaderAlive(): Promise<boolean>;
  readonly stopping: boolean;
  /** What the self-checks found (worker/self-checks.ts). */
  readonly checks: { readonly reasons: readonly string[]; readonly warnings: readonly string[] };
}

export async function readiness(input: ReadinessInput): Promise<Readiness> {
  const { role, health, heartbeatAgeMs } = input;
  const reasons: string[] = [...input.checks.reasons];
  if (input.stopping) reasons.push('The worker is stopping.');
  if (role === 'starting') {
    reasons.push('No session with the database yet.');
    if (health.failure !== null) reasons.push(health.failure.message);
  }
  if (role === 'following' && !(await input.leaderAlive())) {
    reasons.push('This worker follows, and sees no sign of life of the leader.');
  }
  if (role === 'leading' || role === 'contested') {
    if (health.failure !== null) reasons.push(health.failure.message);
    else if (health.silentMs === null) reasons.push('The outbox has not been seen empty yet.');
    else if (!health.flowing)
      reasons.push(`Invalidations lag ${Math.round(health.lagMs / 1000)} s behind their writes.`);
    if (input.heartbeatFailure !== null && input.heartbeatFailure.message !== health.failure?.message)
      reasons.push(input.heartbeatFailure.message);
    if (heartbeatAgeMs === null) reasons.push('The heartbeat has not been confirmed yet.');
    else if (heartbeatAgeMs > HEARTBEAT_LATE_MS)
      reasons.push('The heartbeat is late: readers accept young entries only.');
  }
  return {
    ready: reasons.length === 0,
    role,
    doorbell: input.doorbell,
    listening: input.listening,
    lagMs: Math.round(health.lagMs),
    heartbeatAgeMs: heartbeatAgeMs === null ? null : Math.round(heartbeatAgeMs),
    reasons,
    warnings: input.checks.warnings,
  };
}
