/**
 * The session that holds the advisory locks S (leadership) and K (the doorbell).
 *
 * Promises: both locks are on one session, so that whatever ends it frees both (rule 6); the session runs nothing but
 * lock calls and beats, never a write (rule 7); K is only ever tried, never waited for (rule 2); any error, any answer
 * that takes too long, and any change of the backend behind it ends the session and is reported once through `onLost`.
 *
 * The beat does two things: it finds a half-open connection within seconds, and it is what other workers see in
 * pg_stat_activity as this leader's sign of life (leadership.ts). It writes nothing.
 */
import pg from 'pg';
import { explainDatabaseError, transactionPoolerError } from '../db/errors.ts';
import { LEADER_LOCK, WAKE_LOCK } from '../db/names.ts';
import { clientOptions } from '../db/pool.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';

export const BEAT_INTERVAL_MS = 2_000;
const ANSWER_WITHIN_MS = 3_000;

/**
 * If this machine vanishes without closing its sockets, the server finds out within about 11 s and frees the locks; a
 * standby that sees no beat is quicker (6 s). The session must also outlive any idle limit the database sets.
 */
const SESSION_SETUP = `
  set tcp_keepalives_idle = 5;
  set tcp_keepalives_interval = 2;
  set tcp_keepalives_count = 3;
  set idle_session_timeout = 0;
  set statement_timeout = ${ANSWER_WITHIN_MS}`;

export class LockSession {
  readonly #client: pg.Client;
  readonly #url: string;
  readonly #onLost: (error: WorkerError) => void;
  #pid = 0;
  #lost = false;
  #beating: NodeJS.Timeout | undefined;
  /** A client runs one statement at a time; this is the end of the line. */
  #last: Promise<unknown> = Promise.resolve();

  private constructor(url: string, onLost: (error: WorkerError) => void) {
    this.#url = url;
    this.#onLost = onLost;
    this.#client = new pg.Client(clientOptions(url, 'locks', ANSWER_WITHIN_MS));
    this.#client.on('error', (error) => this.#lose(error));
    this.#client.on('end', () => this.#lose(new Error('Connection terminated')));
  }

  /**
   * Opens a session without any lock.
   *
   * @param onLost called at most once, when the session is no longer to be trusted; not after `close`
   * @param signal gives up an attempt that is under way; it ends nothing later
   * @throws WorkerError when the database cannot be reached or refuses
   */
  static async open(
    url: string,
    onLost: (error: WorkerError) => void,
    signal?: AbortSignal,
  ): Promise<LockSession> {
    const session = new LockSession(url, (error) => {
      if (opened) onLost(error);
    });
    let opened = false;
    const giveUp = () => session.#destroy();
    signal?.addEventListener('abort', giveUp, { once: true });
    try {
      if (signal?.aborted === true) throw new Error('Connection closed before it was made.');
      await session.#client.connect();
      await session.#client.query(SESSION_SETUP);
      session.#pid = await session.#backend();
    } catch (error) {
      session.#destroy();
      throw explainDatabaseError(error, url);
    } finally {
      signal?.removeEventListener('abort', giveUp);
    }
    opened = true;
    session.#beating = setInterval(() => void session.beat(), BEAT_INTERVAL_MS);
    return session;
  }

  /** The backend's process id on the server. */
  get pid(): number {
    return this.#pid;
  }

  get alive(): boolean {
    return !this.#lost;
  }

  /** Tries S. @throws WorkerError SESSION_LOST */
  tryLead(): Promise<boolean> {
    return this.#call('select pg_try_advisory_lock($1) as done', LEADER_LOCK);
  }

  /** Tries K exclusively. @throws WorkerError SESSION_LOST */
  tryBell(): Promise<boolean> {
    return this.#call('select pg_try_advisory_lock($1) as done', WAKE_LOCK);
  }

  /** Releases K: from now on writers are silent. @throws WorkerError SESSION_LOST */
  releaseBell(): Promise<boolean> {
    return this.#call('select pg_advisory_unlock($1) as done', WAKE_LOCK);
  }

  /** One sign of life; ends the session if it gets no answer, or the answer of another backend. Never rejects. */
  async beat(): Promise<void> {
    try {
      const pid = await this.#inLine(() => this.#backend());
      if (pid !== this.#pid) throw transactionPoolerError();
    } catch (error) {
      this.#lose(error);
    }
  }

  /** Ends the session; the server frees its locks. */
  async close(): Promise<void> {
    clearInterval(this.#beating);
    const wasLost = this.#lost;
    this.#lost = true;
    if (wasLost) return;
    const timeout = new Promise<void>((resolve) => setTimeout(resolve, 1_000).unref());
    await Promise.race([this.#client.end().catch(() => undefined), timeout]);
    this.#destroy();
  }

  async #call(sql: string, lock: number): Promise<boolean> {
    if (this.#lost) throw lostError();
    try {
      const result = await this.#inLine(() => this.#client.query<{ done: boolean }>(sql, [lock]));
      if (this.#lost) throw lostError();
      return result.rows[0]?.done === true;
    } catch (error) {
      this.#lose(error);
      throw lostError(error);
    }
  }

  async #backend(): Promise<number> {
    const result = await this.#client.query<{ pid: number }>('select pg_backend_pid() as pid');
    return result.rows[0]?.pid ?? 0;
  }

  #inLine<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }

  #lose(error: unknown): void {
    if (this.#lost) return;
    this.#lost = true;
    clearInterval(this.#beating);
    this.#destroy();
    this.#onLost(explainDatabaseError(error, this.#url));
  }

  /** Cuts the socket: a server that still lives sees it at once, a half-open connection cannot delay us. */
  #destroy(): void {
    const connection: unknown = Reflect.get(this.#client, 'connection');
    const stream: unknown = connection instanceof Object ? Reflect.get(connection, 'stream') : undefined;
    if (stream instanceof Object && 'destroy' in stream && typeof stream.destroy === 'function')
      stream.destroy();
  }
}

function lostError(cause?: unknown): WorkerError {
  return new WorkerError('SESSION_LOST', 'The session that held the locks is gone; taking them again.', {
    exitCode: ExitCode.unavailable,
    cause,
  });
}
