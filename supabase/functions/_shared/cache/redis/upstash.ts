/**
 * The few things the cache asks of Redis, and how @upstash/redis 1.39 is made to do exactly those.
 *
 * What this file promises to the rest: every call ends within the timeout; a call is sent at most once; a reply that is
 * not what Redis would say is an error, never a value; keys are logical here and physical (with the prefix) outside.
 *
 * Settings of the client, each for a reason:
 *   retry { retries: 0 }           `retry: false` still sends twice (its loop counts attempts from 0 to 1), and a second
 *                                  SET NX that arrives after an invalidation would revive the fence it deleted (rule 1).
 *   signal as a function           a fresh timeout for each call (the client asks for it synchronously, when the call is
 *                                  made); a static AbortSignal object would make calls resolve to garbage.
 *   automaticDeserialization off   it turns "123" into a number and "null" into a miss.
 *   responseEncoding off           base64 costs a third more bytes, and a reply that fails to decode is passed on as it is.
 *   enableAutoPipelining off       it keeps no order between reads and writes of one tick; rules 2 and 5 need that order.
 *   latencyLogging, telemetry off  nothing of the application's traffic is printed or sent along.
 */
import { Redis } from '@upstash/redis';
import { EPOCH_KEY, HEARTBEAT_KEY } from '../protocol/epoch.ts';
import { CacheError } from '../protocol/errors.ts';
import { escapeGlob } from '../protocol/glob.ts';
import { startFairTimeout } from './lag-tolerant-timeout.ts';

/** One write; several travel in one request, in order, each billed as one command. */
export type Write =
  /** SET NX [EX]: create a fence unless there is one. */
  | { readonly op: 'create'; readonly key: string; readonly value: string; readonly seconds: number | null }
  /** SET NX PX: take a lease. The reply is 'OK', or null when somebody holds it. */
  | { readonly op: 'claim'; readonly key: string; readonly value: string; readonly milliseconds: number }
  /** SET PX: store an entry. */
  | { readonly op: 'put'; readonly key: string; readonly value: string; readonly milliseconds: number }
  /** EXPIRE GT: let a fence live longer, never shorter. */
  | { readonly op: 'renew'; readonly key: string; readonly seconds: number }
  /** DEL of any number of keys. The reply is how many there were. */
  | { readonly op: 'delete'; readonly keys: readonly string[] }
  /** EXPIRE: let a key end, whatever it was set to before. */
  | { readonly op: 'expire'; readonly key: string; readonly seconds: number }
  /** HSET of one field. */
  | { readonly op: 'record'; readonly key: string; readonly field: string; readonly value: string };

/** The reply to one write; an error reply concerns that write alone. */
export type Reply = string | number | null | CacheError;

export interface Exchange {
  readonly replies: Reply[];
  readonly values: (string | null)[];
}

export interface Connection {
  /** One MGET. */
  read(keys: readonly string[]): Promise<(string | null)[]>;
  /** The writes in order, in one request; one reply each. */
  write(writes: readonly Write[]): Promise<Reply[]>;
  /** The writes in order and then one MGET, all in one request. */
  writeThenRead(writes: readonly Write[], keys: readonly string[]): Promise<Exchange>;
  /** One page of keys of type string that match a glob; cursor '0' starts and, returned, ends. */
  scan(cursor: string, glob: string, count: number): Promise<{ cursor: string; keys: string[] }>;
  /** Number of keys in the whole database, and the values of the heartbeat and the epoch. */
  health(): Promise<Vitals>;
}

export interface Vitals {
  readonly keyCount: number;
  readonly heartbeat: string | null;
  readonly epoch: string | null;
}

export interface ConnectionSettings {
  readonly url: string;
  readonly token: string;
  readonly prefix: string;
  /** Milliseconds that one call may take, its body included. */
  readonly timeout: number;
}

/**
 * A connection over Upstash's REST interface.
 * @throws CacheError INVALID_CONFIGURATION for a URL that the client refuses, or where it may not read the environment, as it
 * does while it is set up (Deno without --allow-env); the message does not repeat the URL
 */
export function connectUpstash({ url, token, prefix, timeout }: ConnectionSettings): Connection {
  let signal = new AbortController().signal;
  const within: Within = async (call) => {
    const limit = startFairTimeout(timeout);
    signal = limit.signal;
    try {
      return await call();
    } finally {
      limit.stop();
    }
  };
  let redis: Redis;
  try {
    redis = new Redis({
      url,
      token,
      retry: { retries: 0 },
      signal: () => signal,
      automaticDeserialization: false,
      responseEncoding: false,
      enableAutoPipelining: false,
      latencyLogging: false,
      enableTelemetry: false,
    });
  } catch (cause) {
    throw new CacheError('INVALID_CONFIGURATION', refusal(cause), { cause });
  }
  return new UpstashConnection(redis, prefix, within);
}

/** Why the client could not be set up, in words of this file only: its own may repeat the URL. */
function refusal(cause: unknown): string {
  const name = cause instanceof Error ? cause.name : '';
  if (name === 'UrlError') return 'UPSTASH_REDIS_REST_URL is no http(s) URL.';
  if (name === 'NotCapable' || name === 'PermissionDenied') {
    return '@upstash/redis may not read the environment; run Deno with --allow-env.';
  }
  return `@upstash/redis could not be set up (${/^[A-Za-z]{1,40}$/.test(name) ? name : 'an error'}).`;
}

/** Runs one call with a timeout of its own. */
type Within = <T>(call: () => Promise<T>) => Promise<T>;

/** The methods that a pipeline and the client itself share, as far as they are used here. */
type Commands = Redis | ReturnType<Redis['pipeline']>;

class UpstashConnection implements Connection {
  readonly #redis: Redis;
  readonly #prefix: string;
  readonly #within: Within;

  constructor(redis: Redis, prefix: string, within: Within) {
    this.#redis = redis;
    this.#prefix = prefix;
    this.#within = within;
  }

  async read(keys: readonly string[]): Promise<(string | null)[]> {
    const names = keys.map((key) => this.#prefix + key);
    const reply: unknown = await this.#within(() => this.#redis.mget(names));
    return checkedValues(reply, keys.length);
  }

  async write(writes: readonly Write[]): Promise<Reply[]> {
    const [only] = writes;
    if (only === undefined) return [];
    if (writes.length === 1) {
      return [checkedReply(await this.#within(async () => this.#append(this.#redis, only)))];
    }
    const pipeline = this.#redis.pipeline();
    for (const write of writes) this.#append(pipeline, write);
    return (await this.#run(pipeline)).map(pipelineReply);
  }

  async writeThenRead(writes: readonly Write[], keys: readonly string[]): Promise<Exchange> {
    const pipeline = this.#redis.pipeline();
    for (const write of writes) this.#append(pipeline, write);
    pipeline.mget(keys.map((key) => this.#prefix + key));
    const replies = await this.#run(pipeline);
    return {
      values: checkedValues(replies.at(-1)?.result, keys.length),
      replies: replies.slice(0, -1).map(pipelineReply),
    };
  }

  async #run(pipeline: ReturnType<Redis['pipeline']>): Promise<PipelineReply[]> {
    const length = pipeline.length();
    const replies: PipelineReply[] = await this.#within(() => pipeline.exec({ keepErrors: true }));
    if (!Array.isArray(replies) || replies.length !== length) throw unexpectedReply('a pipeline');
    return replies;
  }

  #append(commands: Commands, write: Write): unknown {
    switch (write.op) {
      case 'create':
        return write.seconds === null
          ? commands.set(this.#prefix + write.key, write.value, { nx: true })
          : commands.set(this.#prefix + write.key, write.value, { nx: true, ex: write.seconds });
      case 'claim':
        return commands.set(this.#prefix + write.key, write.value, { nx: true, px: write.milliseconds });
      case 'put':
        return commands.set(this.#prefix + write.key, write.value, { px: write.milliseconds });
      case 'renew':
        return commands.expire(this.#prefix + write.key, write.seconds, 'GT');
      case 'expire':
        return commands.expire(this.#prefix + write.key, write.seconds);
      case 'delete':
        return commands.del(...write.keys.map((key) => this.#prefix + key));
      case 'record':
        return commands.hset(this.#prefix + write.key, { [write.field]: write.value });
    }
  }

  async scan(cursor: string, glob: string, count: number): Promise<{ cursor: string; keys: string[] }> {
    const match = escapeGlob(this.#prefix) + glob;
    const reply: unknown = await this.#within(() =>
      this.#redis.scan(cursor, { match, count, type: 'string' }),
    );
    if (!Array.isArray(reply) || !Array.isArray(reply[1])) throw unexpectedReply('SCAN');
    const keys = reply[1].filter((key): key is string => typeof key === 'string');
    return { cursor: String(reply[0]), keys: keys.map((key) => key.slice(this.#prefix.length)) };
  }

  async health(): Promise<Vitals> {
    const names = [HEARTBEAT_KEY, EPOCH_KEY].map((key) => this.#prefix + key);
    const pipeline = this.#redis.pipeline().dbsize().mget(names);
    const [keyCount, values]: unknown[] = await this.#within(() => pipeline.exec());
    if (typeof keyCount !== 'number') throw unexpectedReply('DBSIZE');
    const [heartbeat = null, epoch = null] = checkedValues(values, names.length);
    return { keyCount, heartbeat, epoch };
  }
}

function isStringOrNull(value: unknown): value is string | null {
  return typeof value === 'string' || value === null;
}

function checkedValues(reply: unknown, length: number): (string | null)[] {
  if (Array.isArray(reply) && reply.length === length && reply.every(isStringOrNull)) return reply;
  throw unexpectedReply('MGET');
}

interface PipelineReply {
  readonly error?: string;
  readonly result?: unknown;
}

function pipelineReply(reply: PipelineReply): Reply {
  if (typeof reply.error === 'string') {
    return new CacheError('REDIS_REPLY', 'Redis refused a command of a pipeline.', { cause: reply.error });
  }
  return checkedReply(reply.result);
}

function checkedReply(result: unknown): Reply {
  return isStringOrNull(result) || typeof result === 'number' ? result : unexpectedReply('a write');
}

function unexpectedReply(command: string): CacheError {
  return new CacheError('REDIS_REPLY', `Redis gave no usable reply to ${command}.`);
}
