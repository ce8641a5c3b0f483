/**
 * Proves that the listener hears: rings the doorbell's own channel over another connection and waits for the ring. It
 * finds what a connection that looks healthy hides: a transaction pooler, an UNLISTEN, a proxy that swallows
 * notifications. Run after every LISTEN and whenever rows were found that nobody had rung for; never on a timer.
 */
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { CHANNEL } from '../db/names.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';

const HEARD_WITHIN_MS = 3_000;

export interface EchoParts {
  readonly pool: Pick<pg.Pool, 'query'>;
  /** The listener's connection works, and yet it does not hear. */
  onDeaf(error: WorkerError): void;
}

export class Echo {
  readonly #parts: EchoParts;
  #expected: string | null = null;
  #hear: (() => void) | null = null;

  constructor(parts: EchoParts) {
    this.#parts = parts;
  }

  /** Told of every notification. */
  heard(payload: string): void {
    if (payload !== '' && payload === this.#expected) this.#hear?.();
  }

  /** One test at a time; never rejects. */
  async test(): Promise<void> {
    if (this.#expected !== null) return;
    const payload = `echo:${randomBytes(8).toString('hex')}`;
    this.#expected = payload;
    let timer: NodeJS.Timeout | undefined;
    try {
      const heard = new Promise<boolean>((resolve) => {
        this.#hear = () => resolve(true);
        timer = setTimeout(resolve, HEARD_WITHIN_MS, false);
      });
      await this.#parts.pool.query('select pg_notify($1, $2)', [CHANNEL, payload]);
      if (!(await heard)) this.#parts.onDeaf(deafError());
    } catch {
      // The database is away; whoever needs it reports that.
    } finally {
      clearTimeout(timer);
      this.#hear = null;
      this.#expected = null;
    }
  }
}

function deafError(): WorkerError {
  return new WorkerError(
    'TRANSACTION_POOLER',
    'Notifications do not arrive on the connection that listens, as behind a pooler in transaction mode: point DATABASE_URL at the direct connection or the session pooler, port 5432; polling until then.',
    { exitCode: ExitCode.configuration },
  );
}
