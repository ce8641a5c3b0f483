/**
 * Redis as the rest of the cache sees it: it either answers, or is away (null). Nothing here ever throws into a caller,
 * waits while the circuit is open, or prints more of an error than its kind: the client's messages hold whole commands.
 */

import { HEARTBEAT_KEY } from '../protocol/epoch.ts';
import { CacheError } from '../protocol/errors.ts';
import { Circuit, type Purpose } from './circuit-breaker.ts';
import { mergeReads } from './read-batcher.ts';
import type { Runtime } from './runtime.ts';
import type { Connection, Exchange, Reply, Write } from './upstash.ts';

/** Between two warnings of one kind. */
const WARNING_INTERVAL_MS = 60_000;

/** What a health check wants to know of the cache. */
export interface Health {
  readonly enabled: boolean;
  readonly connected: boolean;
  /** DBSIZE: all keys of the database, other applications' included. */
  readonly keyCount: number;
  readonly latencyMs: number | null;
  /** Whether a worker vouches for the epoch, so that readers need not go by the age of entries (heartbeat.ts). */
  readonly workerAlive: boolean;
}

export interface Reporter {
  /** One line for people; it holds no key, value, token or URL. */
  readonly log: (message: string) => void;
  /** A failure, for statistics and a team's own telemetry. */
  readonly failed: (error: CacheError) => void;
}

export class RedisAccess {
  readonly #connection: Connection | null;
  readonly #circuit: Circuit;
  readonly #runtime: Runtime;
  readonly #reporter: Reporter;
  readonly #warnedAt = new Map<string, number>();
  #commands = 0;

  /** @param connection null when the cache is not configured: then everything is answered as if Redis were away */
  constructor(connection: Connection | null, runtime: Runtime, reporter: Reporter) {
    this.#connection = connection;
    this.#runtime = runtime;
    this.#reporter = reporter;
    this.#circuit = new Circuit(runtime, async () => connection?.read([HEARTBEAT_KEY]));
  }

  get enabled(): boolean {
    return this.#connection !== null;
  }

  /** Commands sent so far by reads and writes, as Upstash bills them. */
  get commands(): number {
    return this.#commands;
  }

  /** One MGET, shared with what else is read at the same moment; null when Redis is away. */
  readonly read = mergeReads((keys) => this.#attempt('read', 1, (connection) => connection.read(keys)));

  /** The writes in order in one request, or null when Redis is away; then some may have been carried out. */
  async write(writes: readonly Write[]): Promise<Reply[] | null> {
    const replies = await this.#attempt('write', writes.length, (connection) => connection.write(writes));
    this.#notice(replies ?? []);
    return replies;
  }

  /** The writes and then one MGET in one request, or null when Redis is away; then some may have been carried out. */
  async writeThenRead(writes: readonly Write[], keys: readonly string[]): Promise<Exchange | null> {
    const commands = writes.length + 1;
    const exchange = await this.#attempt('write', commands, (connection) =>
      connection.writeThenRead(writes, keys),
    );
    this.#notice(exchange?.replies ?? []);
    return exchange;
  }

  /** One page of a scan, or null when Redis is away. */
  scan(cursor: string, glob: string, count: number): Promise<{ cursor: string; keys: string[] } | null> {
    return this.#attempt('read', 1, (connection) => connection.scan(cursor, glob, count));
  }

  /** DBSIZE, the heartbeat and the epoch. Asks even while the circuit is open: a health check wants the truth. */
  async ping(): Promise<Health> {
    const startedAt = performance.now();
    try {
      const health = (await this.#connection?.health()) ?? null;
      if (health !== null) {
        const latencyMs = Math.round((performance.now() - startedAt) * 10) / 10;
        const { keyCount, heartbeat, epoch } = health;
        const workerAlive = heartbeat !== null && heartbeat === epoch;
        return { enabled: true, connected: true, keyCount, latencyMs, workerAlive };
      }
    } catch (error) {
      this.#reporter.failed(unreachable(error));
    }
    return { enabled: this.enabled, connected: false, keyCount: 0, latencyMs: null, workerAlive: false };
  }

  /** Logs a line unless one of the same kind was logged within the last minute. */
  warn(kind: string, message: string): void {
    const now = this.#runtime.monotonic();
    const last = this.#warnedAt.get(kind);
    if (last !== undefined && now - last < WARNING_INTERVAL_MS) return;
    this.#warnedAt.set(kind, now);
    this.#reporter.log(`cache: ${message}`);
  }

  #notice(replies: readonly Reply[]): void {
    for (const reply of replies) {
      if (!(reply instanceof CacheError)) continue;
      this.#reporter.failed(reply);
      this.warn('reply', `Redis refused a write (${kindOf(reply.cause)}); the answer is served uncached.`);
    }
  }

  async #attempt<T>(
    purpose: Purpose,
    commands: number,
    call: (connection: Connection) => Promise<T>,
  ): Promise<T | null> {
    if (this.#connection === null || !this.#circuit.allows()) return null;
    this.#commands += commands;
    try {
      const result = await call(this.#connection);
      this.#circuit.succeeded(purpose);
      return result;
    } catch (error) {
      this.#reporter.failed(unreachable(error));
      // A refused write may concern that write alone (too large, read-only token, full memory); reads go on then.
      const concernsAll = purpose === 'read' || !(error instanceof Error && error.name === 'UpstashError');
      if (concernsAll) this.#circuit.failed(purpose);
      const consequence = concernsAll
        ? 'reads go to their loaders until it answers'
        : 'the answer is served uncached';
      this.warn(purpose, `Redis is away (${kindOf(error)}); ${consequence}.`);
      return null;
    }
  }
}

function unreachable(cause: unknown): CacheError {
  if (cause instanceof CacheError) return cause;
  return new CacheError('REDIS_UNREACHABLE', `Redis is away (${kindOf(cause)}).`, { cause });
}

/** What an error is about, in words of this file only. */
function kindOf(error: unknown): string {
  if (error instanceof CacheError)
    return error.cause === undefined ? 'an unusable reply' : kindOf(error.cause);
  const { name, text, code } = detailsOf(error);
  if (name === 'TimeoutError' || name === 'AbortError') return 'no answer in time';
  if (name === 'UpstashJSONParseError' || name === 'SyntaxError') return 'an answer that is not JSON';
  if (/unauthorized|wrongpass|invalid (auth )?token|noauth/i.test(text)) return 'the token was refused';
  if (/noperm|readonly|read-only/i.test(text)) return 'the token may not write';
  if (/max (daily|monthly|requests|concurrent)|rate limit|too many|quota|throttl/i.test(text))
    return 'throttled';
  if (/oom|maxmemory/i.test(text)) return 'its memory is full';
  if (/request size|too large|payload/i.test(text)) return 'a request too large';
  if (code !== '') return code;
  return name === 'TypeError' ? 'no connection' : 'an error';
}

function detailsOf(error: unknown): { name: string; text: string; code: string } {
  if (typeof error === 'string') return { name: '', text: error, code: '' };
  if (!(error instanceof Error)) return { name: '', text: '', code: '' };
  const cause = error.cause;
  const code = typeof cause === 'object' && cause !== null && 'code' in cause ? String(cause.code) : '';
  // Only what the server said: the client appends the command to it.
  const [text = ''] = error.message.split(', command was:');
  return { name: error.name, text, code: /^[A-Z_]{3,40}$/.test(code) ? code : '' };
}
