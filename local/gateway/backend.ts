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

const CONNECT_MS = 5_000;

/** @throws PartError PART_START_FAILED when Redis does not answer within five seconds */
export async function connectBackend(url: string): Promise<Backend> {
  const client = createClient({
    url,
    // As Upstash: flat arrays instead of maps.
    RESP: 2,
    // A request must not wait for a server that is away.
    disableOfflineQueue: true,
    socket: { reconnectStrategy: (attempt: number) => Math.min(20 * (attempt + 1), 250), noDelay: true },
    commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
  });
  let lastError: unknown;
  client.on('error', (error: unknown) => {
    lastError = error;
  });
  const connected = await Promise.race([
    client.connect().then(() => true),
    new Promise<false>((resolve) => setTimeout(() => resolve(false), CONNECT_MS).unref()),
  ]);
  if (!connected) {
    client.destroy();
    throw new PartError('PART_START_FAILED', `The gateway cannot reach Redis at ${new URL(url).host}.`, {
      cause: lastError,
    });
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
