/**
 * The doorbell: how a worker sleeps without missing an invalidation, and without making writers pay for its sleep.
 *
 * A writer's trigger inserts its rows into the outbox and then asks `pg_try_advisory_xact_lock_shared(K)`. If that is
 * granted, nobody is asleep and the writer says nothing; if it is refused, someone holds K exclusively and the writer
 * sends a NOTIFY with its commit. The worker holds K exactly while it may be asleep.
 *
 * ## States of the leader (who is leader is decided in leadership.ts, by lock S on the same session as K)
 *
 *     awake      K not held. Writers are silent, so the outbox is polled: every 2 ms while rows come, ever slower after.
 *     settling   K held. Every commit from now on rings. The outbox is drained until a claim finds nothing.
 *     asleep     K held, the last drain found the outbox empty, and the wake flag has been clear since before it began.
 *
 * ## Transitions
 *
 *     awake    → settling   quiet for a while, listening, and try K granted (tried, never waited for: rule 2)
 *     awake    → awake      rows found; or K refused, because a writer that kept silent has not ended yet
 *     settling → asleep     drained to empty and the wake flag still clear (rule 3)
 *     settling → settling   the wake flag was set meanwhile, not by a ring: clear it, drain again
 *     asleep   → settling   a ring; or a timer (fallback poll, a deferred target is due): clear the flag, drain, K kept
 *     settling → awake      K released: someone rang during the drain, or rings come fast, or Redis does not take the rows,
 *                           or the listener is not listening
 *     any      → (end)      the session that holds S and K is lost, or the worker stops
 *
 * ## Invariant
 *
 *     While asleep, every committed row in the outbox is followed by a set wake flag.
 *
 * Let G be the moment K was granted and D the last drain's first snapshot, which begins after G and after the flag was
 * cleared. Take any writer that inserted a row.
 *
 * - It asked for K before G and was granted. It held its share to the end of its transaction, and K's exclusive grant
 *   waited for no one: so that transaction had ended before G. Committed means visible to D, which drained it. The share
 *   is a transaction's, asked for anew after each insert, so no savepoint's rollback can have dropped it in between (rule 1).
 * - It asked and was refused: it rings at its commit. LISTEN was committed before G, so the ring reaches us. If it
 *   reached us before the flag was cleared, the commit precedes D, which drained the row; if after, the flag is set.
 * - It asked after G: refused, because we hold K; the same.
 *
 * LISTEN is on pg-listen's own connection (listener.ts), the locks on another (locks.ts). Rule 5 asks that any error of
 * the session means awake, listen again, drain. With two sessions:
 *
 * - The listener breaks: `listening` turns false and the flag is set, which ends sleep; `settling` then sees that nobody
 *   listens and releases K. When LISTEN is committed again the flag is set once more, so a drain that had begun before
 *   that moment never leads to sleep: the flag it is judged by was set after it was cleared.
 * - The lock session breaks: the server frees S and K together, writers fall silent, and this state machine ends. The
 *   worker that gets S next, this one or another, starts awake, which needs nobody to ring.
 * - Either breaks unnoticed: both are asked for a sign of life every few seconds and given up when it does not come;
 *   until then the fallback poll over a third connection finds the rows (rule 8).
 *
 * "Empty" is a claim from the outbox's beginning that returned nothing, not a highest id seen nor SKIP LOCKED (rule 4);
 * a drain that failed is not empty. Rows that wait for the queue were handed out and are remembered, with a retry timer of
 * their own (queue/hand-over.ts); when there was no room to remember some, the flag is set once there is. A drain while
 * nobody listens is welcome, but it never counts towards sleep.
 */
import type { Listener } from './listener.ts';
import type { LockSession } from './lock-session.ts';
import { WakeFlag } from './wake-flag.ts';

export type DoorbellState = 'awake' | 'settling' | 'asleep';

/** What one drain found. */
export interface DrainOutcome {
  /** Rows applied, and acknowledged or remembered until the queue has them (queue/hand-over.ts). */
  readonly rows: number;
  /** Set when the drain gave up because rows could not be applied now: try again after this many milliseconds. */
  readonly retryInMs: number | null;
  /** Milliseconds until the next deferred target is due; null when there is none. */
  readonly dueInMs: number | null;
}

export interface DoorbellParts {
  /** Null: leadership is contested by a stranger; K is then left alone and the worker never sleeps. */
  readonly session: Pick<LockSession, 'tryBell' | 'releaseBell' | 'alive'> | null;
  readonly listener: Pick<Listener, 'listening'>;
  /** Applies what the outbox holds until a claim from its beginning finds nothing, or applying fails. Never rejects. */
  drain(): Promise<DrainOutcome>;
  /** Milliseconds until the next poll while asleep; asked after each drain. */
  pollInMs(): number;
  onState(state: DoorbellState): void;
  /** The fallback poll found rows that nobody had rung for: the listener may be deaf. */
  onUnrung(rows: number): void;
}

/** Awake, rows coming: the shortest pause, which lets commits gather into a batch. */
const POLL_FIRST_MS = 2;
/**
 * Awake, rows coming: the pause is so many times as long as the drain took. The database that serves the writers also
 * serves the claims; a fifth of the time is the most that one worker keeps it busy, however slow it is.
 */
const PAUSE_PER_DRAIN = 4;
/** … but no longer than this, which is what it may add to the age of an invalidation under load. */
const PAUSE_MOST_MS = 50;
/** Awake and K refused for long (a writer keeps its transaction open): a poll is one look at an empty index. */
const POLL_MOST_MS = 50;
/** Awake and without rows for this long: time to sleep. */
const QUIET_MS = 50;
/**
 * More rings than this within the window (100 a second) cost writers more than polling costs us: each ring is a NOTIFY,
 * which holds a lock of the whole instance while its commit is flushed.
 */
const RINGS_MOST = 10;
const RING_WINDOW_MS = 100;
/** A drain of this many rows while K is held is the beginning of a burst. */
const BURST_ROWS = 1_000;

export class Doorbell {
  readonly #parts: DoorbellParts;
  readonly #flag = new WakeFlag();
  #ended = false;
  #rings = 0;
  #windowRings = 0;
  #windowStart = 0;

  constructor(parts: DoorbellParts) {
    this.#parts = parts;
  }

  /** Someone rang. */
  ring(): void {
    this.#rings++;
    this.#flag.set();
  }

  /** Something that sleep rests on has changed (the listener came or went): look again. */
  disturb(): void {
    this.#flag.set();
  }

  /** Ends `run` after the drain in hand. */
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
    while (this.#goesOn()) {
      next = next === 'awake' ? await this.#awake() : await this.#settleAndSleep();
    }
  }

  #goesOn(): boolean {
    return !this.#ended && (this.#parts.session === null || this.#parts.session.alive);
  }

  async #awake(): Promise<'awake' | 'settling'> {
    const { session, listener, onState } = this.#parts;
    onState('awake');
    let quietSince = performance.now();
    let pause = POLL_FIRST_MS;
    while (this.#goesOn()) {
      this.#flag.clear();
      const began = performance.now();
      const outcome = await this.#parts.drain();
      if (!this.#goesOn()) break;
      if (outcome.retryInMs !== null) {
        await this.#pause(outcome.retryInMs);
        continue;
      }
      if (outcome.rows > 0) {
        quietSince = performance.now();
        pause = Math.min(Math.max(POLL_FIRST_MS, PAUSE_PER_DRAIN * (quietSince - began)), PAUSE_MOST_MS);
      } else if (performance.now() - quietSince >= QUIET_MS) {
        if (session !== null && listener.listening && (await session.tryBell())) return 'settling';
        pause = Math.min(pause * 1.5, POLL_MOST_MS);
      }
      await this.#flag.wait(pause);
    }
    return 'awake';
  }

  /** Waits out a failure: rings and changes do not cut it short, only the end does. */
  async #pause(ms: number): Promise<void> {
    const until = performance.now() + ms;
    for (let left = ms; left > 0 && this.#goesOn(); left = until - performance.now()) {
      this.#flag.clear();
      await this.#flag.wait(left);
    }
  }

  async #settleAndSleep(): Promise<'awake' | 'settling'> {
    const { session, listener, pollInMs, onState, onUnrung } = this.#parts;
    if (session === null) return 'awake';
    onState('settling');
    let wokenBy: 'set' | 'timeout' = 'set';
    while (this.#goesOn()) {
      const ringsBefore = this.#rings;
      this.#flag.clear();
      const outcome = await this.#parts.drain();
      if (!this.#goesOn()) break;
      if (wokenBy === 'timeout' && outcome.rows > 0 && this.#rings === ringsBefore) onUnrung(outcome.rows);
      if (!listener.listening || outcome.retryInMs !== null || this.#isBurst(outcome.rows, ringsBefore)) {
        await session.releaseBell();
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
   * Whether several write at once, or soon after each other: while K is held they stand in line, because NOTIFY lets
   * one commit flush at a time. So a ring during the drain is enough. (Their number is not: where a flush takes 5 ms, sixty
   * writers in line ring no faster than one.)
   */
  #isBurst(rows: number, ringsBefore: number): boolean {
    const now = performance.now();
    if (now - this.#windowStart > RING_WINDOW_MS) {
      this.#windowStart = now;
      this.#windowRings = this.#rings;
    }
    return rows >= BURST_ROWS || this.#rings > ringsBefore || this.#rings - this.#windowRings > RINGS_MOST;
  }
}
