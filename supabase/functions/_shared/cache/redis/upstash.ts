/**
 * The adapter to @upstash/redis, for the cache and the worker alike: what they ask of Redis, and nothing else of the client.
 *
 * Promises: a write is sent at most once, and a read once more when its connection breaks, as an idle one does that the other side
 * has closed; a call ends within the timeout; a reply that Redis would not give is a failure, never a value; no message of the client leaves this folder (failure.ts). The key prefix exists only here: keys, globs and scanned
 * keys are without it everywhere else.
 *
 * Settings of the client (1.39), each for a reason:
 *   retry { retries: 0 }           `retry: false` still sends twice: its loop counts attempts from 0 to 1. A second SET NX
 *                                  that arrives after an invalidation would bring back the fence it deleted.
 *   signal as a function           a fresh timeout for each call; the client asks for it synchronously. With a static
 *                                  AbortSignal an aborted call resolves to garbage.
 *   automaticDeserialization off   it turns "123" into a number and "null" into a miss.
 *   responseEncoding off           base64 takes a third more bytes, and a reply that fails to decode is passed on as it is.
 *   enableAutoPipelining off       it keeps no order between the reads and writes of one tick (docs/protocol.md#fences).
 *   latencyLogging, telemetry off  nothing of the application's traffic is printed or sent along.
 */
import { Redis } from '@upstash/redis';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../protocol/epoch.ts';
import { CacheError } from '../protocol/errors.ts';
import { escapeGlob } from '../protocol/glob.ts';
import { failureOf, RedisFailure, refusalOf } from './failure.ts';
import { startLagTolerantTimeout } from './lag-tolerant-timeout.ts';
import { count, exactly, listOf, type PipelineReply, replyTo, textOrNull, valuesOf } from './replies.ts';
import { splitKeys } from './requests.ts';
import { timers } from './runtime.ts';
import { append, COMMANDS, type Reply, type Write } from './writes.ts';

export interface Exchange {
  readonly replies: Reply[];
  readonly values: (string | null)[];
}

export interface Page {
  readonly cursor: string;
  readonly keys: string[];
}

export interface Vitals {
  readonly keyCount: number;
  readonly heartbeat: string | null;
  readonly epoch: string | null;
}

/** What the cache asks of Redis. */
export type Connection = Pick<Upstash, 'getMany' | 'write' | 'writeThenRead' | 'scan' | 'health'>;

export interface UpstashSettings {
  readonly url: string;
  readonly token: string;
  /** In front of every key. */
  readonly prefix: string;
  /** Milliseconds that one call may take, its body included. */
  readonly timeout: number;
  /** Called with each command that is sent. */
  readonly observe?: ((command: string) => void) | undefined;
  /** Turns a failure into the error that calls reject with; by default they reject with the failure itself. */
  readonly explain?: (failure: RedisFailure) => Error;
}

type Call = () => Promise<unknown>;
/** The value of a reply; undefined for one that Redis would not give. */
type ReadReply<T> = (reply: unknown) => T | undefined;

export class Upstash {
  readonly #settings: UpstashSettings;
  readonly #redis: Redis;
  /** The signal of the call that is being made; the client asks for it synchronously. */
  #signal = new AbortController().signal;

  /**
   * @throws CacheError INVALID_CONFIGURATION for a URL that the client refuses, or where it may not read the environment, as
   * it does while it is set up (Deno without --allow-env); the message does not repeat the URL
   */
  constructor(settings: UpstashSettings) {
    this.#settings = settings;
    try {
      this.#redis = new Redis({
        url: settings.url,
        token: settings.token,
        retry: { retries: 0 },
        signal: () => this.#signal,
        automaticDeserialization: false,
        responseEncoding: false,
        enableAutoPipelining: false,
        latencyLogging: false,
        enableTelemetry: false,
      });
    } catch (cause) {
      throw new CacheError('INVALID_CONFIGURATION', refusal(cause));
    }
  }

  /** One MGET. */
  getMany(keys: readonly string[]): Promise<(string | null)[]> {
    if (keys.length === 0) return Promise.resolve([]);
    return this.#read(['MGET'], () => this.#redis.mget(keys.map(this.#name)), valuesOf(keys.length));
  }

  async get(key: string): Promise<string | null> {
    return await this.#read(['GET'], () => this.#redis.get(this.#name(key)), textOrNull);
  }

  /** Reads a key and renews its time to live, in one command. */
  async getAndRenew(key: string, seconds: number): Promise<string | null> {
    return await this.#send(['GETEX'], () => this.#redis.getex(this.#name(key), { ex: seconds }), textOrNull);
  }

  async set(key: string, value: string, seconds: number): Promise<void> {
    await this.#send(['SET'], () => this.#redis.set(this.#name(key), value, { ex: seconds }), exactly('OK'));
  }

  /** Sets several keys in one transaction; `seconds` null: for ever. */
  async setTogether(
    entries: readonly { key: string; value: string; seconds: number | null }[],
  ): Promise<void> {
    const transaction = this.#redis.multi();
    for (const { key, value, seconds } of entries) {
      if (seconds === null) transaction.set(this.#name(key), value);
      else transaction.set(this.#name(key), value, { ex: seconds });
    }
    await this.#send(
      ['MULTI'],
      () => transaction.exec(),
      (reply) => listOf(reply, entries.length, (one) => one === 'OK'),
    );
  }

  /** Deletes keys, in several requests where one cannot name them all. @returns how many keys there were */
  async del(keys: readonly string[]): Promise<number> {
    const deleted = await Promise.all(
      splitKeys(keys, this.#settings.prefix).map((group) =>
        this.#send(['DEL'], () => this.#redis.del(...group.map(this.#name)), count),
      ),
    );
    return deleted.reduce((sum, some) => sum + some, 0);
  }

  /** The writes in order, in one request; one reply each. A refused creation is a reply, not a failure, also alone. */
  async write(writes: readonly Write[]): Promise<Reply[]> {
    const [only] = writes;
    if (only === undefined) return [];
    if (writes.length === 1 && only.op !== 'create') {
      return [
        await this.#send([COMMANDS[only.op]], async () => append(this.#redis, only, this.#name), replyTo),
      ];
    }
    const pipeline = this.#redis.pipeline();
    for (const write of writes) append(pipeline, write, this.#name);
    return (await this.#run(pipeline, writes)).map((reply, index) => this.#replyOf(reply, writes[index]));
  }

  /** The writes in order and then one MGET, all in one request. */
  async writeThenRead(writes: readonly Write[], keys: readonly string[]): Promise<Exchange> {
    const pipeline = this.#redis.pipeline();
    for (const write of writes) append(pipeline, write, this.#name);
    pipeline.mget(keys.map(this.#name));
    const replies = await this.#run(pipeline, writes, 'MGET');
    return {
      values: this.#checked(['MGET'], replies.at(-1)?.result, valuesOf(keys.length)),
      replies: replies.slice(0, -1).map((reply, index) => this.#replyOf(reply, writes[index])),
    };
  }

  /** One page of the keys of type string that match a glob; cursor '0' starts and, returned, ends. */
  async scan(cursor: string, glob: string, count: number): Promise<Page> {
    const { prefix } = this.#settings;
    const options = { match: escapeGlob(prefix) + glob, count, type: 'string' } as const;
    return await this.#read(
      ['SCAN'],
      () => this.#redis.scan(cursor, options),
      (reply) => {
        if (!Array.isArray(reply) || !Array.isArray(reply[1])) return undefined;
        const keys = reply[1].filter((key) => typeof key === 'string');
        return { cursor: String(reply[0]), keys: keys.map((key) => key.slice(prefix.length)) };
      },
    );
  }

  /** The values of a hash; none when there is no such hash. */
  async hashValues(key: string): Promise<string[]> {
    return await this.#read(
      ['HVALS'],
      () => this.#redis.hvals(this.#name(key)),
      (reply) => (Array.isArray(reply) ? reply.map(String) : undefined),
    );
  }

  /** Sets a field of a hash and how long the hash is kept, in one transaction. */
  async record(key: string, field: string, value: string, seconds: number): Promise<void> {
    const name = this.#name(key);
    const transaction = this.#redis
      .multi()
      .hset(name, { [field]: value })
      .expire(name, seconds);
    await this.#send(
      ['HSET', 'EXPIRE'],
      () => transaction.exec(),
      (reply) => (Array.isArray(reply) && reply.length === 2 && reply[1] === 1 ? true : undefined),
    );
  }

  /** Number of keys in the whole database, and the values of the heartbeat and the epoch. */
  async health(): Promise<Vitals> {
    const names = [HEARTBEAT_KEY, EPOCH_KEY];
    const pipeline = this.#redis.pipeline().dbsize().mget(names.map(this.#name));
    return await this.#read(
      ['DBSIZE', 'MGET'],
      () => pipeline.exec(),
      (reply) => {
        if (!Array.isArray(reply)) return undefined;
        const [keyCount, values] = [count(reply[0]), valuesOf(names.length)(reply[1])];
        if (keyCount === undefined || values === undefined) return undefined;
        return { keyCount, heartbeat: values[0] ?? null, epoch: values[1] ?? null };
      },
    );
  }

  async info(): Promise<string> {
    return await this.#read(
      ['INFO'],
      () => this.#redis.exec(['INFO']),
      (reply) => (typeof reply === 'string' ? reply : undefined),
    );
  }

  async ping(): Promise<void> {
    await this.#read(['PING'], () => this.#redis.ping(), exactly('PONG'));
  }

  /** Sends a read, and once more if its connection breaks: a turn of the event loop later, when the client knows which others ended too. Never after a timeout. */
  #read<T>(commands: readonly string[], call: Call, read: ReadReply<T>): Promise<T> {
    return this.#send(commands, call, read, 2);
  }

  /** Sends one request, and checks its reply: a success alone proves nothing. */
  async #send<T>(commands: readonly string[], call: Call, read: ReadReply<T>, attempts = 1): Promise<T> {
    const limit = startLagTolerantTimeout(this.#settings.timeout);
    try {
      for (let left = attempts; ; left--) {
        for (const command of commands) this.#settings.observe?.(command);
        this.#signal = limit.signal;
        let reply: unknown;
        try {
          reply = await call();
        } catch (error) {
          const failure = failureOf(error);
          if (left <= 1 || failure.kind !== 'unreachable') throw this.#explained(failure);
          await new Promise<void>((resolve) => timers.start(resolve, 0));
          continue;
        }
        return this.#checked(commands, reply, read);
      }
    } finally {
      limit.stop();
    }
  }

  #checked<T>(commands: readonly string[], reply: unknown, read: ReadReply<T>): T {
    const value = read(reply);
    if (value !== undefined) return value;
    throw this.#explained(new RedisFailure('unusable', { detail: commands.join(' ') }));
  }

  #explained(failure: RedisFailure): Error {
    return this.#settings.explain?.(failure) ?? failure;
  }

  async #run(
    pipeline: ReturnType<Redis['pipeline']>,
    writes: readonly Write[],
    ...more: string[]
  ): Promise<PipelineReply[]> {
    const commands = [...writes.map(({ op }) => COMMANDS[op]), ...more];
    return await this.#send(
      commands,
      () => pipeline.exec({ keepErrors: true }),
      (reply) =>
        listOf<PipelineReply>(reply, commands.length, (one) => typeof one === 'object' && one !== null),
    );
  }

  #replyOf({ error, result }: PipelineReply, write: Write | undefined): Reply {
    if (typeof error === 'string') return refusalOf(error);
    return this.#checked([write === undefined ? 'a write' : COMMANDS[write.op]], result, replyTo);
  }

  /** A key as Redis knows it. */
  readonly #name = (key: string): string => this.#settings.prefix + key;
}

/** Why the client could not be set up. Its own message may repeat the URL. */
function refusal(cause: unknown): string {
  const name = cause instanceof Error ? cause.name : '';
  if (name === 'UrlError') return 'UPSTASH_REDIS_REST_URL is no http(s) URL.';
  if (name === 'NotCapable' || name === 'PermissionDenied') {
    return '@upstash/redis may not read the environment; run Deno with --allow-env.';
  }
  return `@upstash/redis could not be set up (${/^[A-Za-z]{1,40}$/.test(name) ? name : 'an error'}).`;
}
