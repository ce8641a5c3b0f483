/**
 * Leadership: which of any number of workers drains. It is advisory lock S, on the same session as K (locks.ts).
 *
 *     following   S is another's. Tried once a second; a try holds no snapshot, where waiting for the lock would pin one
 *                 and keep the outbox's dead rows from being cleaned.
 *     leading     S is ours: the doorbell runs (doorbell.ts) until the session is lost or the worker stops.
 *     contested   S is refused, and no worker holds it: a stranger does, or waits for it, in any mode. The worker then
 *                 drains without S and never sleeps. That is safe: leadership only saves work. Every step of the drain
 *                 may be done twice, by two workers, in any order (drain.ts says why).
 *
 *     following → contested   a stranger is seen at S and no worker is; or S was refused UNSEEN_MOST times in a row and
 *                             nobody was seen: once or twice is a leader that ended between the try and the look
 *
 * A leader that was killed frees S with its session. One that was stopped, or cut off, keeps its session alive but
 * gives no beat; when none has been seen for STALE_MS, a follower ends that backend and tries again.
 */
import type pg from 'pg';
import { isPermanent } from '../db/errors.ts';
import {
  describeForeignSession,
  endBackend,
  type Holder,
  leaderOf,
  lockHolders,
} from '../db/lock-holders.ts';
import { LEADER_LOCK } from '../db/names.ts';
import { asWorkerError, type WorkerError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { BEAT_INTERVAL_MS, LockSession } from './lock-session.ts';
import { Doorbell, type DoorbellParts } from './sleep-protocol.ts';
import { WakeFlag } from './wake-flag.ts';

export type Role = 'starting' | 'following' | 'leading' | 'contested';

/** Three beats missed. With a try a second, a stopped leader is replaced within 8 s. */
const STALE_MS = 3 * BEAT_INTERVAL_MS;
const TRY_INTERVAL_MS = 1_000;
/** S refused and nobody seen at it, this many tries in a row. */
const UNSEEN_MOST = 4;
const UNSEEN = `The leader lock is refused, and nobody is seen holding it: this worker delivers without it. Look for objid ${LEADER_LOCK} in pg_locks and end its session.`;
const REOPEN_FIRST_MS = 50;
const REOPEN_MOST_MS = 2_000;

interface Contest {
  /** One sentence with the remedy. */
  readonly because: string;
  /** For the log. */
  readonly fields: object;
}

export interface LeadershipParts {
  readonly url: string;
  readonly pool: pg.Pool;
  readonly log: Log;
  readonly doorbell: Omit<DoorbellParts, 'session'>;
  onRole(role: Role): void;
  /** The session was lost. */
  onLost(error: WorkerError): void;
  /** The session could not be opened. */
  onTrouble(error: WorkerError): void;
}

export class Leadership {
  readonly #parts: LeadershipParts;
  readonly #pause = new WakeFlag();
  #doorbell: Doorbell | null = null;
  #stopped = false;
  #running: Promise<void> | null = null;
  /** Backends that were ours and are not any more; if one still holds S it is a ghost, to be ended at once. */
  readonly #former = new Set<number>();
  /** Why leadership is contested, one sentence with the remedy; null when it is not. */
  #contest: string | null = null;
  /** Tries that S refused in a row without anybody seen at it. */
  #unseen = 0;
  readonly #ending = new AbortController();

  constructor(parts: LeadershipParts) {
    this.#parts = parts;
  }

  /** Why leadership is contested, one sentence with the remedy; null when it is not. */
  get contest(): string | null {
    return this.#contest;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  ring(): void {
    this.#doorbell?.ring();
  }

  disturb(): void {
    this.#doorbell?.disturb();
  }

  /** Ends after the drain in hand; S and K are free when it resolves. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#ending.abort();
    this.#doorbell?.end();
    this.#pause.set();
    await this.#running;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stopped) {
      let session: LockSession | null = null;
      try {
        const onLost = (error: WorkerError) => {
          this.#parts.onLost(error);
          this.#doorbell?.end();
          this.#pause.set();
        };
        session = await LockSession.open(this.#parts.url, onLost, this.#ending.signal);
        failures = 0;
        await this.#serve(session);
      } catch (error) {
        const reason = asWorkerError(error);
        if (reason.code !== 'SESSION_LOST') this.#parts.onTrouble(reason);
        failures += isPermanent(reason) ? 10 : 1;
      } finally {
        if (session !== null) {
          this.#former.add(session.pid);
          await session.close();
          this.#parts.onRole('starting');
        }
      }
      if (!this.#stopped) {
        this.#pause.clear();
        await this.#pause.wait(Math.min(REOPEN_MOST_MS, REOPEN_FIRST_MS * 2 ** Math.min(failures, 10)));
      }
    }
  }

  /** Follows until S is ours, then leads; ends with the session. */
  async #serve(session: LockSession): Promise<void> {
    while (!this.#stopped && session.alive) {
      this.#pause.clear();
      if (await session.tryLead()) {
        this.#contested(null);
        await this.#keepDoorbell(session, 'leading');
        return;
      }
      const { leader, contest } = await this.#rivals();
      this.#contested(contest);
      if (contest !== null) {
        await this.#keepDoorbell(null, 'contested');
        continue;
      }
      this.#parts.onRole('following');
      if (leader !== undefined && (await this.#replace(leader))) {
        await this.#pause.wait(50);
        continue;
      }
      await this.#pause.wait(TRY_INTERVAL_MS);
    }
  }

  async #keepDoorbell(session: LockSession | null, role: Role): Promise<void> {
    this.#parts.onRole(role);
    const doorbell = new Doorbell({ ...this.#parts.doorbell, session });
    this.#doorbell = doorbell;
    // A contested worker looks again now and then whether the stranger is gone.
    const again = session === null ? setTimeout(() => doorbell.end(), 5_000) : undefined;
    try {
      if (this.#stopped) return;
      await doorbell.run();
    } finally {
      clearTimeout(again);
      this.#doorbell = null;
    }
  }

  /** Who keeps S from this worker: a leader to follow, or a reason to drain without. */
  async #rivals(): Promise<{ leader?: Holder; contest: Contest | null }> {
    let holders: Holder[];
    try {
      holders = (await lockHolders(this.#parts.pool)).filter((holder) => holder.lock === 'leader');
    } catch {
      // Nothing known: follow, and look again in a second.
      return { contest: null };
    }
    const leader = leaderOf(holders);
    this.#unseen = holders.length === 0 ? this.#unseen + 1 : 0;
    if (leader !== undefined) return { leader, contest: null };
    const stranger = holders.find((holder) => holder.foreign);
    if (stranger !== undefined) {
      const { pid, role, application } = stranger;
      return { contest: { because: describeForeignSession(stranger), fields: { pid, role, application } } };
    }
    return { contest: this.#unseen < UNSEEN_MOST ? null : { because: UNSEEN, fields: {} } };
  }

  /** Ends the session of a leader that gives no sign of life. @returns whether to try for S at once */
  async #replace(leader: Holder): Promise<boolean> {
    const { pid, silentMs } = leader;
    if (pid === null || (silentMs <= STALE_MS && !this.#former.has(pid))) return false;
    const ended = await endBackend(this.#parts.pool, pid);
    this.#parts.log.warn(
      { pid, silentMs: Math.round(silentMs) },
      ended
        ? 'The leading worker gave no sign of life: its session is ended, taking over.'
        : 'The leading worker gives no sign of life and its session cannot be ended by this role.',
    );
    if (ended) this.#former.delete(pid);
    return true;
  }

  /** Says once that leadership is contested, not every time it is seen. */
  #contested(contest: Contest | null): void {
    if (contest !== null && contest.because !== this.#contest)
      this.#parts.log.warn(contest.fields, contest.because);
    this.#contest = contest?.because ?? null;
  }
}
