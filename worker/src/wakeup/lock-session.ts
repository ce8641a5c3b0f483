/**
 * The session that holds the advisory locks LEADER_LOCK and WAKE_LOCK (docs/protocol.md#leader-election).
 *
 * Promises:
 * - Both locks are on one session, so whatever ends it frees both.
 * - The session only takes locks, beats and names itself. It never writes, and it never waits for a lock.
 * - An error, a late answer or another backend behind the connection ends the session. `onLost` is told once.
 *
 * The beat, every 2 s, finds a half-open connection. Other workers see it in pg_stat_activity as the leader's sign of life.
 */
import pg from 'pg';
import { explainDatabaseError, transactionPoolerError } from '../db/errors.ts';
import { LEADER_LOCK, LOCKS_APPLICATION, UNFIT_APPLICATION, WAKE_LOCK } from '../db/names.ts';
import { clientOptions } from '../db/pool.ts';
import { ExitCode, WorkerError } from '../lib/errors.ts';
import { endsWithin, Serial } from '../lib/waiting.ts';

export const BEAT_INTERVAL_MS = 2_000;
const ANSWER_WITHIN_MS = 3_000;
const CLOSE_WITHIN_MS = 1_000;

/**
 * If this machine vanishes without closing its sockets, the server notices within 11 s and frees the locks. A standby that
 * misses three beats acts after 6 s. The session must also outlive the database's own idle limit.
 */
const SESSION_SETUP = `
  set tcp_keepalives_idle = 5;
  set tcp_keepalives_interval = 2;
  set tcp_keepalives_count = 3;
  set idle_session_timeout = 0;
  set statement_timeout = ${ANSWER_WITHIN_MS - 500}`;

export class LockSession {
  readonly #client: pg.Client;
  readonly #url: string;
  readonly #onLost: (error: WorkerError) => void;
  #pid = 0;
  #application = LOCKS_APPLICATION;
  #lost = false;
  #beating: NodeJS.Timeout | undefined;
  /** A client runs one statement at a time. */
  readonly #statements = new Serial();

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
   * @param onLost called at most once, when the session ends by itself; not after `close`
   * @param signal gives up connecting; it has no effect on an open session
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

  /** Tries LEADER_LOCK. @throws WorkerError SESSION_LOST */
  tryLeaderLock(): Promise<boolean> {
    return this.#call('select pg_try_advisory_lock($1) as done', LEADER_LOCK);
  }

  /** Tries WAKE_LOCK exclusively. @throws WorkerError SESSION_LOST */
  tryWakeLock(): Promise<boolean> {
    return this.#call('select pg_try_advisory_lock($1) as done', WAKE_LOCK);
  }

  /** Releases WAKE_LOCK: writers no longer notify. @throws WorkerError SESSION_LOST */
  releaseWakeLock(): Promise<boolean> {
    return this.#call('select pg_advisory_unlock($1) as done', WAKE_LOCK);
  }

  /** Shows in the session's name, which `status` reads, whether this worker could take over. Never rejects. */
  async showFitness(isFit: boolean): Promise<void> {
    const application = isFit ? LOCKS_APPLICATION : UNFIT_APPLICATION;
    if (this.#lost || application === this.#application) return;
    this.#application = application;
    try {
      await this.#statements.run(() =>
        this.#client.query("select set_config('application_name', $1, false)", [application]),
      );
    } catch (error) {
      this.#lose(error);
    }
  }

  /** One sign of life. Without an answer, or with that of another backend, the session ends. Never rejects. */
  async beat(): Promise<void> {
    try {
      const pid = await this.#statements.run(() => this.#backend());
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
    await endsWithin(CLOSE_WITHIN_MS, this.#client.end());
    this.#destroy();
  }

  async #call(sql: string, lock: number): Promise<boolean> {
    if (this.#lost) throw lostError();
    try {
      const result = await this.#statements.run(() => this.#client.query<{ done: boolean }>(sql, [lock]));
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

  #lose(error: unknown): void {
    if (this.#lost) return;
    this.#lost = true;
    clearInterval(this.#beating);
    this.#destroy();
    this.#onLost(explainDatabaseError(error, this.#url));
  }

  /** Destroys the socket: a live server notices at once, and a half-open connection cannot delay the worker. */
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
