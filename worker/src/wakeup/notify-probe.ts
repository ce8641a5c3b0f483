/**
 * Proves that notifications arrive: sends a NOTIFY over another connection and waits 3 s for it. A LISTEN connection can
 * look healthy and receive nothing, behind a transaction pooler, after an UNLISTEN, or through a faulty proxy.
 * The probe runs after every LISTEN and whenever rows were found without a notification, never on a timer.
 */
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { CHANNEL } from '../db/names.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';
import { endsWithin } from '../lib/waiting.ts';

const ARRIVES_WITHIN_MS = 3_000;

export interface NotifyProbeParts {
  readonly pool: Pick<pg.Pool, 'query'>;
  /** The connection works, but the notification did not arrive. */
  onLost(error: WorkerError): void;
}

export class NotifyProbe {
  readonly #parts: NotifyProbeParts;
  #expected: string | null = null;
  #arrive: (() => void) | null = null;

  constructor(parts: NotifyProbeParts) {
    this.#parts = parts;
  }

  /** Told of every notification. */
  received(payload: string): void {
    if (payload !== '' && payload === this.#expected) this.#arrive?.();
  }

  /** One probe at a time. Never rejects. */
  async run(): Promise<void> {
    if (this.#expected !== null) return;
    const payload = `probe:${randomBytes(8).toString('hex')}`;
    this.#expected = payload;
    const arrival = new Promise<void>((resolve) => {
      this.#arrive = resolve;
    });
    try {
      await this.#parts.pool.query('select pg_notify($1, $2)', [CHANNEL, payload]);
      if (!(await endsWithin(ARRIVES_WITHIN_MS, arrival))) this.#parts.onLost(lostError());
    } catch {
      // The database is away. Whoever needs it reports that.
    } finally {
      this.#arrive = null;
      this.#expected = null;
    }
  }
}

function lostError(): WorkerError {
  return new WorkerError(
    'TRANSACTION_POOLER',
    'Notifications do not arrive on the connection that listens, as behind a pooler in transaction mode: point DATABASE_URL at the direct connection or the session pooler, port 5432; polling until then.',
    { exitCode: ExitCode.configuration },
  );
}
