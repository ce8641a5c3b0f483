/**
 * Leadership: which of any number of workers drains. It is advisory lock S, on the same session as K (locks.ts).
 *
 *     following   S is another's. Tried once a second; a try holds no snapshot, where waiting for the lock would pin one
 *                 and keep the outbox's dead rows from being cleaned.
 *     leading     S is ours: the doorbell runs (doorbell.ts) until the session is lost or the worker stops.
 *     contested   S is held by a stranger, a session that is no worker's. The worker then drains without S and never
 *                 sleeps. That is safe: leadership only saves work. Every step of the drain may be done twice, by
 *                 two workers, in any order (drain.ts says why).
 *
 * A leader that was killed frees S with its session. One that was stopped, or cut off, keeps its session alive but
 * gives no beat; when none has been seen for STALE_MS, a follower ends that backend and tries again.
 */
import type pg from 'pg';
import { isPermanent } from '../database/database-errors.ts';
import { asWorkerError, type WorkerError } from '../errors.ts';
import type { Log } from '../log.ts';
import { Doorbell, type DoorbellParts } from './doorbell.ts';
import { endBackend, type Holder, lockHolders } from './holders.ts';
import { BEAT_INTERVAL_MS, LockSession } from './locks.ts';
import { WakeFlag } from './wake-flag.ts';

export type Role = 'starting' | 'following' | 'leading' | 'contested';

/** Three beats missed. With a try a second, a stopped leader is replaced within 8 s. */
const STALE_MS = 3 * BEAT_INTERVAL_MS;
const TRY_INTERVAL_MS = 1_000;
const REOPEN_FIRST_MS = 50;
const REOPEN_MOST_MS = 2_000;

export interface LeadershipParts {
  readonly url: string;
  readonly pool: pg.Pool;
  readonly log: Log;
  readonly doorbell: Omit<DoorbellParts, 'session'>;
  onRole(role: Role): void;
  /** The session could not be opened, or was lost. */
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
  #known = '';

  constructor(parts: LeadershipParts) {
    this.#parts = parts;
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
    this.#doorbell?.end();
    this.#pause.set();
    await this.#running;
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stopped) {
      let session: LockSession | null = null;
      try {
        session = await LockSession.open(this.#parts.url, (error) => {
          this.#parts.onTrouble(error);
          this.#doorbell?.end();
          this.#pause.set();
        });
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
        this.#known = '';
        await this.#keepDoorbell(session, 'leading');
        return;
      }
      const holder = await this.#holder();
      if (holder?.stranger === true) {
        this.#say(`stranger ${holder.pid}`, () =>
          this.#parts.log.warn(
            { pid: holder.pid, role: holder.role, application: holder.application },
            `Leadership lock S is held by process ${holder.pid} of role ${holder.role}, which is no worker: draining without it. End that session: select pg_terminate_backend(${holder.pid}).`,
          ),
        );
        await this.#keepDoorbell(null, 'contested');
        continue;
      }
      this.#parts.onRole('following');
      if (holder !== null && (holder.silentMs > STALE_MS || this.#former.has(holder.pid))) {
        const ended = await endBackend(this.#parts.pool, holder.pid);
        this.#parts.log.warn(
          { pid: holder.pid, silentMs: Math.round(holder.silentMs) },
          ended
            ? 'The leading worker gave no sign of life: its session is ended, taking over.'
            : 'The leading worker gives no sign of life and its session cannot be ended by this role.',
        );
        if (ended) this.#former.delete(holder.pid);
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

  async #holder(): Promise<Holder | null> {
    try {
      return (await lockHolders(this.#parts.pool)).find((holder) => holder.lock === 'S') ?? null;
    } catch {
      // Nothing known: follow, and look again in a second.
      return null;
    }
  }

  /** Logs a circumstance once, not every time it is seen. */
  #say(what: string, log: () => void): void {
    if (this.#known === what) return;
    this.#known = what;
    log();
  }
}
