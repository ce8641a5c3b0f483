/**
 * The gateway's one connection to Redis. Commands of concurrent requests share it and are pipelined by the client; a
 * transaction is written in one piece, so nothing of another request comes between MULTI and EXEC.
 */
import { createClient, ErrorReply, RESP_TYPES } from 'redis';
import { PartError } from '../parts/part.ts';
import type { RedisReply } from './answer.ts';
import type { RedisCommand } from './commands.ts';

export interface Backend {
  /** Runs commands in their order; each has its own reply, errors included. */
  run(commands: readonly RedisCommand[]): Promise<RedisReply[]>;
  /** MULTI … EXEC: the replies, or one error when Redis discarded the whole. */
  transact(commands: readonly RedisCommand[]): Promise<RedisReply[] | Error>;
  close(): void;
}

/** Redis cannot be reached; Upstash answers 503 then. */
export class BackendUnavailable extends Error {
  readonly code = 'BACKEND_UNAVAILABLE';
}

/**
 * Connects, and from then on reconnects by itself whenever Redis comes back.
 * @throws PartError PART_START_FAILED when Redis does not answer now
 */
export async function connectBackend(url: string): Promise<Backend> {
  let hasBeenConnected = false;
  const client = createClient({
    url,
    // As Upstash: flat arrays instead of maps.
    RESP: 2,
    // A request must not wait for a server that is away.
    disableOfflineQueue: true,
    socket: {
      noDelay: true,
      connectTimeout: 5_000,
      reconnectStrategy: (attempt, cause) => (hasBeenConnected ? Math.min(20 * (attempt + 1), 250) : cause),
    },
    commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
  });
  // Each failing request says so itself; without a listener the event would end the process.
  client.on('error', () => undefined);
  try {
    await client.connect();
    hasBeenConnected = true;
  } catch (cause) {
    const message = `The gateway cannot reach Redis at ${new URL(url).host}.`;
    throw new PartError('PART_START_FAILED', message, { cause });
  }

  const send = async (command: RedisCommand, chainId?: symbol): Promise<RedisReply> => {
    try {
      const options = chainId === undefined ? undefined : { chainId };
      return (await client.sendCommand(command, options)) as unknown as RedisReply;
    } catch (error) {
      if (error instanceof ErrorReply) return error;
      throw new BackendUnavailable('Redis is not reachable', { cause: error });
    }
  };

  return {
    run: (commands) => Promise.all(commands.map((command) => send(command))),
    async transact(commands) {
      const chainId = Symbol('transaction');
      const replies = await Promise.all(
        [['MULTI'], ...commands, ['EXEC']].map((command) => send(command, chainId)),
      );
      const outcome = replies.at(-1);
      return Array.isArray(outcome) || outcome instanceof Error
        ? outcome
        : new Error('EXECABORT Transaction discarded');
    },
    close: () => client.destroy(),
  };
}
