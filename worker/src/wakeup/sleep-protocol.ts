/**
 * How the leader sleeps without missing an invalidation, and without making writers pay for its sleep.
 *
 * A writer's trigger inserts rows into the outbox, then tries WAKE_LOCK in shared mode. Granted: no worker sleeps, and the
 * writer sends nothing. Refused: a worker holds the lock exclusively, and the writer sends a NOTIFY with its commit.
 *
 *     awake      WAKE_LOCK is not held. The outbox is polled: every 2 ms while rows arrive, more slowly after that.
 *     settling   WAKE_LOCK is held, so every later commit notifies. Delivery runs until a claim finds nothing.
 *     asleep     WAKE_LOCK is held, the last delivery found the outbox empty, and the wake flag is still clear.
 *
 *     awake    → settling   quiet for 50 ms, listening, and the lock is granted (tried, never waited for)
 *     settling → asleep     the outbox is empty and the wake flag is still clear
 *     settling → settling   something other than a notification set the flag: clear it, deliver again
 *     asleep   → settling   a notification or a timer (fallback poll, throttled target): clear the flag, deliver
 *     settling → awake      the lock is released: notified during delivery, a burst, a failure, or no LISTEN
 *     any      → (end)      the lock session is lost, or the worker stops
 *
 * Promise: while asleep, every committed row in the outbox is followed by a set wake flag.
 * Why that holds, and what breaks without each rule: docs/protocol.md#wakeup.
 */
import type { Listener } from './listener.ts';
import type { LockSession } from './lock-session.ts';
import { WakeFlag } from './wake-flag.ts';

export type SleepState = 'awake' | 'settling' | 'asleep';

/** What one delivery found. */
export interface DeliveryOutcome {
  /** Rows applied and acknowledged, some of them into `pending` (db/pending.ts). */
  readonly rows: number;
  /** Set when delivery failed: try again after this many milliseconds. */
  readonly retryInMs: number | null;
  /** Milliseconds until the next throttled target is due; null when there is none. */
  readonly dueInMs: number | null;
}

export interface SleepProtocolParts {
  /** Null: a foreign session holds LEADER_LOCK. The worker then leaves WAKE_LOCK alone and never sleeps. */
  readonly session: Pick<LockSession, 'tryWakeLock' | 'releaseWakeLock' | 'alive'> | null;
  readonly listener: Pick<Listener, 'listening'>;
  /** Applies what the outbox holds until a claim from its beginning finds nothing, or applying fails. Never rejects. */
  deliver(): Promise<DeliveryOutcome>;
  /** Milliseconds until the next poll while asleep; asked after each delivery. */
  pollInMs(): number;
  onState(state: SleepState): void;
  /** The fallback poll found rows without a notification: LISTEN may have been lost. */
  onUnnotified(rows: number): void;
}

/** Awake, rows arriving: the shortest pause, which lets commits gather into a batch. */
const POLL_FIRST_MS = 2;
/**
 * Awake, rows arriving: the pause is 4 times as long as the delivery took. The database also serves the writers, so one
 * worker keeps it busy for at most a fifth of the time, however slow it is.
 */
const PAUSE_PER_DELIVERY = 4;
/** The longest pause. It is what the pause may add to the age of an invalidation under load. */
const MAX_PAUSE_MS = 50;
/** Awake, and a writer's open transaction keeps WAKE_LOCK: a poll reads an empty index. */
const MAX_POLL_MS = 50;
/** Awake and without rows for this long: time to sleep. */
const QUIET_MS = 50;
/**
 * More than 100 notifications a second cost the writers more than polling costs the worker: NOTIFY holds a lock of the
 * whole instance while its commit is flushed.
 */
const MAX_NOTIFICATIONS = 10;
const NOTIFICATION_WINDOW_MS = 100;
/** A delivery of this many rows while WAKE_LOCK is held is the beginning of a burst. */
const BURST_ROWS = 1_000;

export class SleepProtocol {
  readonly #parts: SleepProtocolParts;
  readonly #flag = new WakeFlag();
  #ended = false;
  #notifications = 0;
  #windowNotifications = 0;
  #windowStart = 0;

  constructor(parts: SleepProtocolParts) {
    this.#parts = parts;
  }

  /** A notification arrived. */
  notified(): void {
    this.#notifications++;
    this.#flag.set();
  }

  /** Something that sleep depends on has changed, such as the LISTEN connection: deliver and decide again. */
  recheck(): void {
    this.#flag.set();
  }

  /** Ends `run` after the delivery under way. */
  end(): void {
    this.#ended = true;
    this.#flag.set();
  }

  /**
   * Runs the states until `end`, or until the session is lost.
   *
   * @throws WorkerError SESSION_LOST when a lock call finds the session gone
   */
  async run(): Promise<void> {
    let next: 'awake' | 'settling' = 'awake';
    while (this.#continues()) {
      next = next === 'awake' ? await this.#awake() : await this.#settleAndSleep();
    }
  }

  #continues(): boolean {
    return !this.#ended && (this.#parts.session === null || this.#parts.session.alive);
  }

  async #awake(): Promise<'awake' | 'settling'> {
    const { session, listener, onState } = this.#parts;
    onState('awake');
    let quietSince = performance.now();
    let pause = POLL_FIRST_MS;
    while (this.#continues()) {
      this.#flag.clear();
      const began = performance.now();
      const outcome = await this.#parts.deliver();
      if (!this.#continues()) break;
      if (outcome.retryInMs !== null) {
        await this.#pause(outcome.retryInMs);
        continue;
      }
      if (outcome.rows > 0) {
        quietSince = performance.now();
        pause = Math.min(Math.max(POLL_FIRST_MS, PAUSE_PER_DELIVERY * (quietSince - began)), MAX_PAUSE_MS);
      } else if (performance.now() - quietSince >= QUIET_MS) {
        if (session !== null && listener.listening && (await session.tryWakeLock())) return 'settling';
        pause = Math.min(pause * 1.5, MAX_POLL_MS);
      }
      await this.#flag.wait(pause);
    }
    return 'awake';
  }

  /** Waits out a failure. Only `end` cuts it short, not a notification. */
  async #pause(ms: number): Promise<void> {
    const until = performance.now() + ms;
    for (let left = ms; left > 0 && this.#continues(); left = until - performance.now()) {
      this.#flag.clear();
      await this.#flag.wait(left);
    }
  }

  async #settleAndSleep(): Promise<'awake' | 'settling'> {
    const { session, listener, pollInMs, onState, onUnnotified } = this.#parts;
    if (session === null) return 'awake';
    onState('settling');
    let wokenBy: 'set' | 'timeout' = 'set';
    while (this.#continues()) {
      const notifiedBefore = this.#notifications;
      this.#flag.clear();
      const outcome = await this.#parts.deliver();
      if (!this.#continues()) break;
      if (wokenBy === 'timeout' && outcome.rows > 0 && this.#notifications === notifiedBefore)
        onUnnotified(outcome.rows);
      if (!listener.listening || outcome.retryInMs !== null || this.#isBurst(outcome.rows, notifiedBefore)) {
        await session.releaseWakeLock();
        return 'awake';
      }
      wokenBy = 'set';
      if (this.#flag.isSet) continue;
      onState('asleep');
      const pollMs = pollInMs();
      wokenBy = await this.#flag.wait(Math.max(1, Math.min(pollMs, outcome.dueInMs ?? pollMs)));
      if (wokenBy === 'timeout' && outcome.dueInMs !== null && outcome.dueInMs <= pollMs) wokenBy = 'set';
    }
    return 'awake';
  }

  /**
   * Whether several writers are active. While WAKE_LOCK is held their commits queue behind each other, because NOTIFY lets
   * one commit flush at a time. One notification during the delivery is therefore enough. Their rate says nothing: where a
   * flush takes 5 ms, sixty waiting writers notify no faster than one.
   */
  #isBurst(rows: number, notifiedBefore: number): boolean {
    const now = performance.now();
    if (now - this.#windowStart > NOTIFICATION_WINDOW_MS) {
      this.#windowStart = now;
      this.#windowNotifications = this.#notifications;
    }
    return (
      rows >= BURST_ROWS ||
      this.#notifications > notifiedBefore ||
      this.#notifications - this.#windowNotifications > MAX_NOTIFICATIONS
    );
  }
}
