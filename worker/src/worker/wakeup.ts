/** Wires the wakeup: LISTEN, the NOTIFY probe, leader election, and what they report. */
import type pg from 'pg';
import { explainDatabaseError } from '../db/errors.ts';
import { checkSessions } from '../db/preconditions.ts';
import type { ErrorLog, ErrorSource } from '../delivery/error-log.ts';
import type { DeliveryHealth } from '../delivery/health.ts';
import type { WorkerError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import type { Metrics } from '../metrics/metrics.ts';
import type { QueueSupervisor } from '../queue/supervisor.ts';
import { LeaderElection, type Role } from '../wakeup/leader-election.ts';
import { Listener } from '../wakeup/listener.ts';
import { NotifyProbe } from '../wakeup/notify-probe.ts';
import type { SleepState } from '../wakeup/sleep-protocol.ts';
import type { Delivery } from './delivery.ts';

export interface Wakeup {
  readonly role: Role;
  /** Why no worker can lead, one sentence with the remedy; null when one can. */
  readonly leaderless: string | null;
  readonly state: SleepState | null;
  readonly listening: boolean;
  start(): void;
  /** Shows other workers and `status` whether this worker could take over. Never rejects. */
  showFitness(isFit: boolean): Promise<void>;
  /** Resolves after the delivery under way, when both locks are free. */
  stop(): Promise<void>;
  /** Ends the listening connection. */
  close(): Promise<void>;
}

export interface WakeupParts {
  readonly databaseUrl: string;
  readonly fallbackPollMs: number;
  readonly pool: pg.Pool;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly errors: ErrorLog;
  readonly health: DeliveryHealth;
  readonly delivery: Delivery;
  readonly queue: Pick<QueueSupervisor, 'lead' | 'follow'>;
  onError(error: WorkerError, from: ErrorSource): void;
}

const ROLE_LINES: Readonly<Record<Exclude<Role, 'starting'>, string>> = {
  leading: 'This worker leads: it delivers invalidations.',
  following: 'Another worker leads: standing by.',
  contested: 'This worker delivers without the leader lock.',
};

export function createWakeup(parts: WakeupParts): Wakeup {
  const { databaseUrl, pool, log, metrics, errors, health, delivery, queue, onError } = parts;
  let role: Role = 'starting';
  let state: SleepState | null = null;
  let wasListening = false;

  const listener: Listener = new Listener(databaseUrl, {
    onNotification: (payload) => {
      // Only a writer's payload is empty; the probe's and any other wake the worker all the same.
      if (payload === '') metrics.notifications.inc();
      errors.over('listener');
      election.notified();
      probe.received(payload);
    },
    onChange: (listening, error) => {
      // A failed first attempt has lost nothing.
      if (wasListening && !listening) metrics.reconnects.inc();
      wasListening = listening;
      if (error !== undefined) onError(explainDatabaseError(error, databaseUrl), 'listener');
      election.recheck();
      probe.listenerChanged();
      if (listening) void probe.run();
    },
  });
  const probe = new NotifyProbe({
    pool,
    checkSessions: () => checkSessions(pool),
    onLost: (error) => {
      onError(error, 'listener');
      listener.renew(error);
    },
  });
  const election = new LeaderElection({
    url: databaseUrl,
    pool,
    log,
    sleep: {
      listener,
      // A beat needs a delivery that shows whether invalidations flow.
      pollInMs: () => Math.min(parts.fallbackPollMs, delivery.beatDueInMs),
      deliver: () => delivery.deliver(),
      onState: (next) => {
        if (next === 'asleep' && state !== 'asleep') metrics.sleeps.inc();
        state = next;
        log.debug({ state: next }, `wakeup: ${next}`);
      },
      onUnnotified: (rows) => {
        metrics.unnotified.inc(rows);
        void probe.run();
      },
    },
    onRole: (next) => {
      if (next === role) return;
      if (next !== 'starting') errors.over('locks');
      role = next;
      state = null;
      metrics.leading.set(next === 'leading' || next === 'contested' ? 1 : 0);
      health.reset();
      // Between two sessions the queue keeps working; its jobs need no leader.
      if (next === 'starting') return;
      delivery.beginTerm();
      if (next === 'following') queue.follow();
      else queue.lead();
      log.info({ role: next }, ROLE_LINES[next]);
    },
    onLost: (error) => {
      metrics.reconnects.inc();
      health.failed(error);
      onError(error, 'locks');
    },
    onError: (error) => {
      health.failed(error);
      onError(error, 'locks');
    },
  });

  return {
    get role() {
      return role;
    },
    get leaderless() {
      return role === 'contested' ? election.leaderless : null;
    },
    get state() {
      return state;
    },
    get listening() {
      return listener.listening;
    },
    start() {
      listener.start();
      election.start();
    },
    showFitness: (isFit) => election.showFitness(isFit),
    stop: () => election.stop(),
    close: () => listener.close(),
  };
}
