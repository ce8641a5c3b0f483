/** The doorbell of one worker, put together: the ear, its proof, leadership, and what they tell the outside. */

import { explainDatabaseError } from '../db/errors.ts';
import type { QueueSupervisor } from '../queue/supervisor.ts';
import { Leadership, type Role } from '../wakeup/leader-election.ts';
import { Listener } from '../wakeup/listener.ts';
import { Echo } from '../wakeup/notify-probe.ts';
import type { DoorbellState } from '../wakeup/sleep-protocol.ts';
import type { Context } from './context.ts';
import type { Draining } from './delivery.ts';

export interface Bell {
  readonly role: Role;
  /** Why leadership is contested, one sentence with the remedy; null when it is not. */
  readonly contest: string | null;
  readonly state: DoorbellState | null;
  readonly listening: boolean;
  start(): void;
  /** Resolves when the drain in hand has ended and S and K are free. */
  stop(): Promise<void>;
  /** Ends the listening connection. */
  close(): Promise<void>;
}

const ROLE_LINES: Readonly<Record<Exclude<Role, 'starting'>, string>> = {
  leading: 'This worker leads: it drains the outbox.',
  following: 'Another worker leads: standing by.',
  contested: 'This worker drains without the leadership lock.',
};

export function createBell(context: Context, draining: Draining, queue: QueueSupervisor): Bell {
  const { configuration, log, metrics, trouble, flow, pool, onTrouble } = context;
  const url = configuration.databaseUrl;
  let role: Role = 'starting';
  let state: DoorbellState | null = null;
  let heard = false;

  const listener: Listener = new Listener(url, {
    ring: (payload) => {
      // A writer's ring says nothing more; an echo, or a stranger's notification, wakes the worker all the same.
      if (payload === '') metrics.rings.inc();
      trouble.over('listener');
      leadership.ring();
      echo.heard(payload);
    },
    change: (listening, error) => {
      // A first attempt that fails has lost nothing.
      if (heard && !listening) metrics.reconnects.inc();
      heard = listening;
      if (error !== undefined) onTrouble(explainDatabaseError(error, url), 'listener');
      leadership.disturb();
      if (listening) void echo.test();
    },
  });
  const echo = new Echo({
    pool,
    onDeaf: (error) => {
      onTrouble(error, 'listener');
      listener.renew(error);
    },
  });
  const leadership = new Leadership({
    url,
    pool,
    log,
    doorbell: {
      listener,
      // A beat that is due, or is tried again, needs a drain that says whether invalidations flow.
      pollInMs: () => Math.min(configuration.fallbackPollMs, draining.heartbeat.dueInMs),
      drain: () => draining.drain(),
      onState: (next) => {
        if (next === 'asleep' && state !== 'asleep') metrics.sleeps.inc();
        state = next;
        log.debug({ state: next }, `doorbell: ${next}`);
      },
      onUnrung: (rows) => {
        metrics.unrung.inc(rows);
        void echo.test();
      },
    },
    onRole: (next) => {
      if (next === role) return;
      if (next !== 'starting') trouble.over('locks');
      role = next;
      state = null;
      metrics.leading.set(next === 'leading' || next === 'contested' ? 1 : 0);
      flow.forget();
      // Between two sessions the queue's work goes on; its jobs need no leader.
      if (next === 'starting') return;
      draining.beginTerm();
      if (next === 'following') queue.follow();
      else queue.lead();
      log.info({ role: next }, ROLE_LINES[next]);
    },
    onLost: (error) => {
      metrics.reconnects.inc();
      flow.failed(error);
      onTrouble(error, 'locks');
    },
    onTrouble: (error) => {
      flow.failed(error);
      onTrouble(error, 'locks');
    },
  });

  draining.onMore(() => leadership.disturb());
  return {
    get role() {
      return role;
    },
    get contest() {
      return role === 'contested' ? leadership.contest : null;
    },
    get state() {
      return state;
    },
    get listening() {
      return listener.listening;
    },
    start() {
      listener.start();
      leadership.start();
    },
    stop: () => leadership.stop(),
    close: () => listener.close(),
  };
}
