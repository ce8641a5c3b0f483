/**
 * The one door to Redis. Every command is one request through the real @upstash/redis client, with none of its own
 * retries (they take seconds to report a refused connection; when to try again is the drain's decision), a time limit
 * of its own, and values left as they are. Failures leave here classified and without their text (upstash-errors.ts).
 */
import { Redis } from '@upstash/redis';
import type { Configuration } from '../lib/config.ts';
import { badAnswer, classify } from './errors.ts';

/** What one command did, for counting what Upstash bills. */
export type CommandObserver = (command: string) => void;

export interface CacheServer {
  /** Deletes physical keys; resolves, when Redis has confirmed, with the number of keys that were there. */
  del(keys: readonly string[]): Promise<number>;
  /** Reads a key and renews its time to live, in one command. */
  getAndRenew(key: string, seconds: number): Promise<string | null>;
  get(key: string): Promise<string | null>;
  getMany(keys: readonly string[]): Promise<(string | null)[]>;
  set(key: string, value: string, seconds: number): Promise<void>;
  /** Sets several keys in one transaction; `seconds` null: for ever. */
  setTogether(entries: readonly { key: string; value: string; seconds: number | null }[]): Promise<void>;
  /** Keys of type string only. */
  scan(cursor: string, pattern: string, count: number): Promise<{ cursor: string; keys: string[] }>;
  /** The values of a hash; none when there is no such hash. */
  hashValues(key: string): Promise<string[]>;
  /** Sets a field of a hash and how long the hash is kept, in one transaction. */
  record(key: string, field: string, value: string, seconds: number): Promise<void>;
  info(): Promise<string>;
  dbsize(): Promise<number>;
  ping(): Promise<void>;
}

/**
 * @param configuration the address, the token and the time that one request may take (milliseconds)
 * @param observe told of every command that was sent
 */
export function connectUpstash(
  configuration: Pick<Configuration, 'upstashUrl' | 'upstashToken' | 'upstashTimeoutMs'>,
  observe: CommandObserver = () => undefined,
): CacheServer {
  const redis = new Redis({
    url: configuration.upstashUrl,
    token: configuration.upstashToken,
    automaticDeserialization: false,
    // `retry: false` still tries twice in 1.39; this does not.
    retry: { retries: 0 },
    // A function: with a plain AbortSignal the client answers an abort with garbage instead of an error.
    signal: () => AbortSignal.timeout(configuration.upstashTimeoutMs),
    enableAutoPipelining: false,
    enableTelemetry: false,
  });

  /** Sends one command and holds its answer against what it must look like: a 200 alone proves nothing. */
  async function send<T>(
    name: string,
    command: () => Promise<unknown>,
    read: (answer: unknown) => T | undefined,
  ): Promise<T> {
    observe(name);
    let answer: unknown;
    try {
      answer = await command();
    } catch (error) {
      throw classify(error);
    }
    const result = read(answer);
    if (result === undefined) throw badAnswer(name);
    return result;
  }

  const textOrNull = (answer: unknown) =>
    typeof answer === 'string' || answer === null ? { value: answer } : undefined;

  return {
    async del(keys) {
      if (keys.length === 0) return 0;
      return await send('DEL', () => redis.del(...keys), count);
    },
    async getAndRenew(key, seconds) {
      return (await send('GETEX', () => redis.getex<string>(key, { ex: seconds }), textOrNull)).value;
    },
    async get(key) {
      return (await send('GET', () => redis.get<string>(key), textOrNull)).value;
    },
    async getMany(keys) {
      if (keys.length === 0) return [];
      return await send(
        'MGET',
        () => redis.mget<(string | null)[]>(...keys),
        (answer) =>
          Array.isArray(answer) && answer.length === keys.length ? (answer as (string | null)[]) : undefined,
      );
    },
    async set(key, value, seconds) {
      await send(
        'SET',
        () => redis.set(key, value, { ex: seconds }),
        (answer) => (answer === 'OK' ? true : undefined),
      );
    },
    async setTogether(entries) {
      const transaction = redis.multi();
      for (const { key, value, seconds } of entries) {
        if (seconds === null) transaction.set(key, value);
        else transaction.set(key, value, { ex: seconds });
      }
      await send(
        'MULTI',
        () => transaction.exec(),
        (answer) =>
          Array.isArray(answer) && answer.length === entries.length && answer.every((reply) => reply === 'OK')
            ? true
            : undefined,
      );
    },
    async scan(cursor, pattern, count) {
      return await send(
        'SCAN',
        () => redis.scan(cursor, { match: pattern, count, type: 'string' }),
        (answer) => {
          if (!Array.isArray(answer) || !Array.isArray(answer[1])) return undefined;
          return { cursor: String(answer[0]), keys: answer[1].map(String) };
        },
      );
    },
    async hashValues(key) {
      return await send(
        'HVALS',
        () => redis.hvals(key),
        (answer) => (Array.isArray(answer) ? answer.map(String) : undefined),
      );
    },
    async record(key, field, value, seconds) {
      observe('HSET');
      await send(
        'EXPIRE',
        () =>
          redis
            .multi()
            .hset(key, { [field]: value })
            .expire(key, seconds)
            .exec(),
        (answer) => (Array.isArray(answer) && answer.length === 2 && answer[1] === 1 ? true : undefined),
      );
    },
    async info() {
      return await send(
        'INFO',
        () => redis.exec(['INFO']),
        (answer) => (typeof answer === 'string' ? answer : undefined),
      );
    },
    async dbsize() {
      return await send('DBSIZE', () => redis.dbsize(), count);
    },
    async ping() {
      await send(
        'PING',
        () => redis.ping(),
        (answer) => (answer === 'PONG' ? true : undefined),
      );
    },
  };
}

/** A reply that is a count: a whole number, not its text. */
function count(answer: unknown): number | undefined {
  return typeof answer === 'number' && Number.isInteger(answer) ? answer : undefined;
}
