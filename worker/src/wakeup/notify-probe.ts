/**
 * Proves that notifications arrive: sends a NOTIFY over another connection and waits 3 s for it. A LISTEN connection can
 * look healthy and receive nothing, behind a transaction pooler, after an UNLISTEN, or through a faulty proxy.
 * The probe runs after every LISTEN and whenever rows were found without a notification, never on a timer.
 *
 * A listening connection that ended meanwhile, as when an administrator ended its session, proves nothing. Whether a pooler in
 * transaction mode is the cause is tried out, not guessed.
 */
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { CHANNEL } from '../db/names.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';
import { endsWithin } from '../lib/waiting.ts';

const ARRIVES_WITHIN_MS = 3_000;

export interface NotifyProbeParts {
  readonly pool: Pick<pg.Pool, 'query'>;
  /** @throws WorkerError TRANSACTION_POOLER behind one; anything else when the database cannot be asked */
  checkSessions(): Promise<void>;
  /** The connection works, but the notification did not arrive. */
  onLost(error: WorkerError): void;
}

export class NotifyProbe {
  readonly #parts: NotifyProbeParts;
  #expected: string | null = null;
  #end: (() => void) | null = null;

  constructor(parts: NotifyProbeParts) {
    this.#parts = parts;
  }

  /** Told of every notification. */
  received(payload: string): void {
    if (payload !== '' && payload === this.#expected) this.#end?.();
  }

  /** The listening connection was lost or made: a probe that is under way ends without a verdict. */
  listenerChanged(): void {
    this.#expected = null;
    this.#end?.();
  }

  /** One probe at a time. Never rejects. */
  async run(): Promise<void> {
    if (this.#expected !== null) return;
    const payload = `probe:${randomBytes(8).toString('hex')}`;
    this.#expected = payload;
    const ended = new Promise<void>((resolve) => {
      this.#end = resolve;
    });
    try {
      await this.#parts.pool.query('select pg_notify($1, $2)', [CHANNEL, payload]);
      if (await endsWithin(ARRIVES_WITHIN_MS, ended)) return;
      const reason = await this.#reason();
      if (this.#expected === payload) this.#parts.onLost(reason);
    } catch {
      // The database is away. Whoever needs it reports that.
    } finally {
      if (this.#expected === payload) this.#expected = null;
    }
  }

  /** @throws what `checkSessions` throws, but for TRANSACTION_POOLER */
  async #reason(): Promise<WorkerError> {
    try {
      await this.#parts.checkSessions();
    } catch (error) {
      if (error instanceof WorkerError && error.code === 'TRANSACTION_POOLER') return error;
      throw error;
    }
    return new WorkerError(
      'NOTIFICATIONS_LOST',
      'Notifications do not arrive on the connection that listens, although it is open, as behind a proxy that drops them. Until they do, the worker polls.',
      { exitCode: ExitCode.unavailable },
    );
  }
}
