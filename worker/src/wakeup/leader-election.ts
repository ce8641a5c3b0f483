/**
 * Which of any number of workers delivers: the one that holds LEADER_LOCK, on the same session as WAKE_LOCK.
 *
 *     following   Another worker holds LEADER_LOCK. It is tried once a second. A try holds no snapshot; waiting for the lock
 *                 would pin one and keep the outbox's dead rows from being vacuumed.
 *     leading     This worker holds it. The sleep protocol runs until the session is lost or the worker stops.
 *     contested   LEADER_LOCK is refused and no worker holds it: a foreign session does, or waits for it. This worker delivers
 *                 leaderless and never sleeps. That is safe, because every step of delivery may be done twice, by two
 *                 workers, in any order. Leadership only saves work.
 *
 *     following → contested   a foreign session is seen at the lock and no worker is; or the lock was refused 4 times in a row with
 *                             nobody seen (fewer can be a leader that just ended); or `mayBeStopped`.
 *
 * A killed leader frees the lock with its session. A stopped or disconnected leader keeps its session but no longer beats:
 * after three missed beats a follower ends that backend and tries again, if its role may see and end
 * sessions of the leader's role. Proof: docs/protocol.md#leader-election.
 */
import type pg from 'pg';
import { isPermanent } from '../db/errors.ts';
import {
  describeForeignSession,
  endBackend,
  type Holder,
  leaderOf,
  lockHolders,
  mayBeStopped,
  takeOverRights,
} from '../db/lock-holders.ts';
import { LEADER_LOCK } from '../db/names.ts';
import { asWorkerError, type WorkerError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { backoffMs } from '../lib/waiting.ts';
import { BEAT_INTERVAL_MS, LockSession } from './lock-session.ts';
import { SleepProtocol, type SleepProtocolParts } from './sleep-protocol.ts';
import { WakeFlag } from './wake-flag.ts';

/** `/readyz` and the log show these values, so `contested` keeps its name. It means leaderless. */
export type Role = 'starting' | 'following' | 'leading' | 'contested';

/** Three missed beats. A follower tries once a second, so it replaces a stopped leader within 8 s. */
const STALE_MS = 3 * BEAT_INTERVAL_MS;
const TRY_INTERVAL_MS = 1_000;
/** Refusals in a row with no holder in pg_locks. */
const MAX_REFUSALS_WITHOUT_HOLDER = 4;
const NO_HOLDER = `The leader lock is refused, and no session holds it: this worker delivers without it. Look for objid ${LEADER_LOCK} in pg_locks and end its session.`;
const FIRST_REOPEN_MS = 50;
const MAX_REOPEN_MS = 2_000;

/** Why no worker can lead. */
interface Leaderless {
  /** One sentence with the remedy. */
  readonly reason: string;
  /** For the log. */
  readonly fields: object;
}

export interface LeaderElectionParts {
  readonly url: string;
  readonly pool: pg.Pool;
  readonly log: Log;
  readonly sleep: Omit<SleepProtocolParts, 'session'>;
  onRole(role: Role): void;
  /** The session was lost. */
  onLost(error: WorkerError): void;
  /** The session could not be opened. */
  onError(error: WorkerError): void;
}

export class LeaderElection {
  readonly #parts: LeaderElectionParts;
  readonly #pause = new WakeFlag();
  #session: LockSession | null = null;
  #sleep: SleepProtocol | null = null;
  #stopped = false;
  #running: Promise<void> | null = null;
  /** This worker's earlier backends. One that still holds LEADER_LOCK is ended at once. */
  readonly #former = new Set<number>();
  #leaderless: string | null = null;
  #refusalsWithoutHolder = 0;
  #warnedOf: string | null = null;
  readonly #ending = new AbortController();

  constructor(parts: LeaderElectionParts) {
    this.#parts = parts;
  }

  /** Why no worker can lead, one sentence with the remedy; null when one can. */
  get leaderless(): string | null {
    return this.#leaderless;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Never rejects. */
  async showFitness(isFit: boolean): Promise<void> {
    await this.#session?.showFitness(isFit);
  }

  notified(): void {
    this.#sleep?.notified();
  }

  recheck(): void {
    this.#sleep?.recheck();
  }

  /** Resolves after the delivery under way, when both locks are free. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#ending.abort();
    this.#sleep?.end();
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
          this.#sleep?.end();
          this.#pause.set();
        };
        session = await LockSession.open(this.#parts.url, onLost, this.#ending.signal);
        this.#session = session;
        failures = 0;
        await this.#serve(session);
      } catch (error) {
        const reason = asWorkerError(error);
        if (reason.code !== 'SESSION_LOST') this.#parts.onError(reason);
        failures += isPermanent(reason) ? 10 : 1;
      } finally {
        this.#session = null;
        if (session !== null) {
          this.#former.add(session.pid);
          await session.close();
          this.#parts.onRole('starting');
        }
      }
      if (!this.#stopped) {
        this.#pause.clear();
        await this.#pause.wait(backoffMs(failures, FIRST_REOPEN_MS, MAX_REOPEN_MS));
      }
    }
  }

  /** Follows until the lock is granted, then leads. Ends with the session. */
  async #serve(session: LockSession): Promise<void> {
    while (!this.#stopped && session.alive) {
      this.#pause.clear();
      if (await session.tryLeaderLock()) {
        this.#setLeaderless(null);
        await this.#deliver(session, 'leading');
        return;
      }
      const { leader, leaderless } = await this.#findHolder();
      this.#setLeaderless(leaderless);
      if (leaderless !== null) {
        await this.#deliver(null, 'contested');
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

  async #deliver(session: LockSession | null, role: Role): Promise<void> {
    this.#parts.onRole(role);
    const sleep = new SleepProtocol({ ...this.#parts.sleep, session });
    this.#sleep = sleep;
    // Without a leader the lock is tried again every 5 s.
    const retry = session === null ? setTimeout(() => sleep.end(), 5_000) : undefined;
    try {
      if (this.#stopped) return;
      await sleep.run();
    } finally {
      clearTimeout(retry);
      this.#sleep = null;
    }
  }

  /** Who holds LEADER_LOCK: a leader to follow, or the reason why there is none. */
  async #findHolder(): Promise<{ leader?: Holder; leaderless: Leaderless | null }> {
    let holders: Holder[];
    try {
      holders = (await lockHolders(this.#parts.pool)).filter((holder) => holder.lock === 'leader');
    } catch {
      // Unknown: follow, and ask again in a second.
      return { leaderless: null };
    }
    const leader = leaderOf(holders);
    this.#refusalsWithoutHolder = holders.length === 0 ? this.#refusalsWithoutHolder + 1 : 0;
    if (leader !== undefined) {
      const reason = await mayBeStopped(this.#parts.pool, leader);
      const fields = { pid: leader.pid, role: leader.role };
      return { leader, leaderless: reason === null ? null : { reason, fields } };
    }
    const foreign = holders.find((holder) => holder.foreign);
    if (foreign !== undefined) {
      const { pid, role, application } = foreign;
      return { leaderless: { reason: describeForeignSession(foreign), fields: { pid, role, application } } };
    }
    const isLeaderless = this.#refusalsWithoutHolder >= MAX_REFUSALS_WITHOUT_HOLDER;
    return { leaderless: isLeaderless ? { reason: NO_HOLDER, fields: {} } : null };
  }

  /** Ends the session of a leader that no longer beats. @returns whether to try the lock at once */
  async #replace(leader: Holder): Promise<boolean> {
    const { pid, silentMs } = leader;
    if (leader.silenceHidden)
      this.#warnOnce(leader, 'The leader has another role: this one may not see whether it is alive');
    if (pid === null || (silentMs <= STALE_MS && !this.#former.has(pid))) return false;
    const ended = await endBackend(this.#parts.pool, pid);
    if (ended === false)
      this.#warnOnce(
        leader,
        'The leading worker gives no sign of life, and this role may not end its session',
      );
    if (ended !== true) return false;
    this.#parts.log.warn(
      { pid, silentMs: Math.round(silentMs) },
      'The leading worker gave no sign of life: its session was ended, taking over.',
    );
    this.#former.delete(pid);
    return true;
  }

  /** Once for each leader. */
  #warnOnce({ pid, role }: Holder, what: string): void {
    if (this.#warnedOf === `${pid} ${what}`) return;
    this.#warnedOf = `${pid} ${what}`;
    this.#parts.log.warn({ pid, role }, `${what}: ${takeOverRights(role)}.`);
  }

  /** Logs a reason once, not every 5 s. */
  #setLeaderless(leaderless: Leaderless | null): void {
    if (leaderless !== null && leaderless.reason !== this.#leaderless)
      this.#parts.log.warn(leaderless.fields, leaderless.reason);
    this.#leaderless = leaderless?.reason ?? null;
  }
}
