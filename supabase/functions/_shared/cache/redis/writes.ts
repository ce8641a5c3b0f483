/** What the cache writes, as data: one request can hold several writes, and tests can read them. */
import type { Redis } from '@upstash/redis';
import type { RedisFailure } from './failure.ts';

/** One write; several travel in one request, in order, each billed as one command. */
export type Write =
  /** SET NX GET [EX]: create a fence unless there is one. The reply is null, or the value of the one that there is. */
  | { readonly op: 'create'; readonly key: string; readonly value: string; readonly seconds: number | null }
  /** The same in two commands, for servers that refuse GET beside NX (creations.ts). */
  | {
      readonly op: 'create-only';
      readonly key: string;
      readonly value: string;
      readonly seconds: number | null;
    }
  | { readonly op: 'get'; readonly key: string }
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

/** The reply to one write; a failure concerns that write alone. */
export type Reply = string | number | null | RedisFailure;

/** The command of each kind of write. */
export const COMMANDS: Readonly<Record<Write['op'], string>> = {
  create: 'SET',
  'create-only': 'SET',
  get: 'GET',
  claim: 'SET',
  put: 'SET',
  renew: 'EXPIRE',
  expire: 'EXPIRE',
  delete: 'DEL',
  record: 'HSET',
};

/** The methods that a pipeline and the client itself share, as far as they are used here. */
type Commands = Redis | ReturnType<Redis['pipeline']>;

/**
 * Sends one write, or adds it to a pipeline.
 *
 * @param named gives a key as Redis knows it
 */
export function append(commands: Commands, write: Write, named: (key: string) => string): unknown {
  if (write.op === 'delete') return commands.del(...write.keys.map(named));
  const key = named(write.key);
  switch (write.op) {
    case 'create':
      return write.seconds === null
        ? commands.set(key, write.value, { nx: true, get: true })
        : commands.set(key, write.value, { nx: true, get: true, ex: write.seconds });
    case 'create-only':
      return write.seconds === null
        ? commands.set(key, write.value, { nx: true })
        : commands.set(key, write.value, { nx: true, ex: write.seconds });
    case 'get':
      return commands.get(key);
    case 'claim':
      return commands.set(key, write.value, { nx: true, px: write.milliseconds });
    case 'put':
      return commands.set(key, write.value, { px: write.milliseconds });
    case 'renew':
      return commands.expire(key, write.seconds, 'GT');
    case 'expire':
      return commands.expire(key, write.seconds);
    case 'record':
      return commands.hset(key, { [write.field]: write.value });
  }
}
