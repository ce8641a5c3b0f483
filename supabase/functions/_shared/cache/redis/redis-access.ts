/**
 * Redis as the cache client sees it: it answers, or it is away (null). No call throws, no call waits while the circuit is open,
 * and a log line tells of a failure only its kind.
 */

import { HEARTBEAT_KEY } from '../protocol/epoch.ts';
import { CacheError } from '../protocol/errors.ts';
import { CircuitBreaker, type Purpose } from './circuit-breaker.ts';
import { foldCreations, isRefused, splitCreations } from './creations.ts';
import { failureOf, RedisFailure } from './failure.ts';
import { batchReads } from './read-batcher.ts';
import type { Runtime } from './runtime.ts';
import type { Connection, Exchange, Page } from './upstash.ts';
import type { Reply, Write } from './writes.ts';

/** What a health check writes. */
const PROBE_KEY = 'fencepost:health';
const PROBE_TTL_MS = 1_000;

/** Between two warnings of one kind. */
const WARNING_INTERVAL_MS = 60_000;

/** What a health check wants to know of the cache. */
export interface Health {
  readonly enabled: boolean;
  readonly connected: boolean;
  /** DBSIZE: all keys of the database, other applications' included. */
  readonly keyCount: number;
  readonly latencyMs: number | null;
  /** Whether the heartbeat names the current epoch. If not, readers accept only young entries. */
  readonly workerAlive: boolean;
  /** Why it is not connected or takes no writes, such as `its memory is full`; null when it does both, or is not enabled. */
  readonly problem: string | null;
}

export interface Reporter {
  /** One line for people; it holds no key, value, token or URL. */
  readonly log: (message: string) => void;
  /** A failure, for statistics and a team's own telemetry. */
  readonly failed: (error: CacheError) => void;
}

export class RedisAccess {
  readonly #connection: Connection | null;
  readonly #circuit: CircuitBreaker;
  readonly #runtime: Runtime;
  readonly #reporter: Reporter;
  readonly #warnedAt = new Map<string, number>();
  #commands = 0;
  /** Until a server refuses it. */
  #takesGetWithNx = true;

  /** @param connection null when the cache is not configured: then everything is answered as if Redis were away */
  constructor(connection: Connection | null, runtime: Runtime, reporter: Reporter) {
    this.#connection = connection;
    this.#runtime = runtime;
    this.#reporter = reporter;
    this.#circuit = new CircuitBreaker(runtime, async () => connection?.getMany([HEARTBEAT_KEY]));
  }

  get enabled(): boolean {
    return this.#connection !== null;
  }

  /** Commands sent so far by reads and writes, as Upstash bills them. */
  get commands(): number {
    return this.#commands;
  }

  /** One MGET, shared with what else is read at the same moment; null when Redis is away. */
  readonly read = batchReads((keys) => this.#attempt('read', 1, (connection) => connection.getMany(keys)));

  /** The writes in order in one request, or null when Redis is away; then some may have been carried out. */
  async write(writes: readonly Write[]): Promise<Reply[] | null> {
    const sent = this.#takesGetWithNx ? writes : splitCreations(writes);
    const replies = await this.#attempt('write', sent.length, (connection) => connection.write(sent));
    return replies && this.#repliesTo(writes, replies);
  }

  /** The writes and then one MGET in one request, or null when Redis is away; then some may have been carried out. */
  async writeThenRead(writes: readonly Write[], keys: readonly string[]): Promise<Exchange | null> {
    const exchange = await this.#attempt('write', writes.length + 1, (connection) =>
      connection.writeThenRead(writes, keys),
    );
    return exchange && { ...exchange, replies: this.#repliesTo(writes, exchange.replies) };
  }

  /** One page of a scan, or null when Redis is away. */
  scan(cursor: string, glob: string, count: number): Promise<Page | null> {
    return this.#attempt('read', 1, (connection) => connection.scan(cursor, glob, count));
  }

  /**
   * DBSIZE, the heartbeat and the epoch, and a write, which a full Redis or a replica refuses. Asks even while the circuit is open: a
   * health check wants the truth.
   */
  async ping(): Promise<Health> {
    let health: Health = {
      enabled: this.enabled,
      connected: false,
      keyCount: 0,
      latencyMs: null,
      workerAlive: false,
      problem: null,
    };
    if (this.#connection === null) return health;
    const startedAt = this.#runtime.monotonic();
    try {
      const { keyCount, heartbeat, epoch } = await this.#connection.health();
      const latencyMs = Math.round((this.#runtime.monotonic() - startedAt) * 10) / 10;
      const workerAlive = heartbeat !== null && heartbeat === epoch;
      health = { ...health, connected: true, keyCount, latencyMs, workerAlive };
      await this.#connection.write([{ op: 'put', key: PROBE_KEY, value: '', milliseconds: PROBE_TTL_MS }]);
    } catch (error) {
      const failure = failureOf(error);
      this.#reporter.failed(asCacheError(failure));
      // A connection that breaks says nothing of a Redis that has just answered.
      return health.connected && failure.kind === 'unreachable'
        ? health
        : { ...health, problem: failure.message };
    }
    return health;
  }

  /** Logs a line unless one of the same kind was logged within the last minute. */
  warn(kind: string, message: string): void {
    const now = this.#runtime.monotonic();
    const last = this.#warnedAt.get(kind);
    if (last !== undefined && now - last < WARNING_INTERVAL_MS) return;
    this.#warnedAt.set(kind, now);
    this.#reporter.log(`cache: ${message}`);
  }

  /** One reply to each write; refusals are reported. */
  #repliesTo(writes: readonly Write[], given: readonly Reply[]): Reply[] {
    const wasSplit = given.length > writes.length;
    const replies = wasSplit ? foldCreations(writes, given) : [...given];
    for (const [index, reply] of replies.entries()) {
      if (!(reply instanceof RedisFailure)) continue;
      if (!wasSplit && isRefused(writes[index], reply)) {
        this.#takesGetWithNx = false;
        this.warn('nx-get', 'this Redis refuses SET with NX and GET; fences take one command more.');
        continue;
      }
      this.#reporter.failed(
        new CacheError('REDIS_REPLY', 'Redis refused a command of a pipeline.', { cause: reply }),
      );
      this.warn('reply', `Redis refused a write (${reply.message}); the answer is served uncached.`);
    }
    return replies;
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
      const failure = failureOf(error);
      this.#reporter.failed(asCacheError(failure));
      // A refused write may concern that write alone (too large, read-only token, full memory), and one whose connection broke says
      // nothing of the next, as after a process was frozen. Neither cost anybody time. Reads go on then, and find out.
      const concernsAll = purpose === 'read' || !(failure.isReply || failure.kind === 'unreachable');
      if (concernsAll) this.#circuit.failed(purpose);
      const consequence = concernsAll
        ? 'reads go to their loaders until it answers'
        : 'the answer is served uncached';
      this.warn(purpose, `${nameOf(failure)}; ${consequence}.`);
      return null;
    }
  }
}

function asCacheError(failure: RedisFailure): CacheError {
  return failure.kind === 'unusable'
    ? new CacheError('REDIS_REPLY', `Redis gave no usable reply to ${failure.detail || 'a command'}.`, {
        cause: failure,
      })
    : new CacheError('REDIS_UNREACHABLE', `${nameOf(failure)}.`, { cause: failure });
}

/** A Redis that refuses is not away. */
function nameOf({ isReply, message }: RedisFailure): string {
  return isReply ? `Redis refuses (${message})` : `Redis is away (${message})`;
}
