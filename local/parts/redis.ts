/**
 * Redis as a part: `redis-server` or `valkey-server` from the system, on the loopback interface, in memory only. A
 * password is not used: the gateway in front of it carries the token, and tests talk to it directly.
 */
import { ensureCommand } from '../system-packages.ts';
import { once, type Part } from './part.ts';
import { onFreePort } from './ports.ts';
import { startProcess } from './process.ts';
import { removePath, temporaryFolder } from './reaper.ts';

export interface RedisOptions {
  /** Commands that will do, best first. */
  readonly programs?: readonly string[];
  /** Exactly this port; PORT_TAKEN if it is in use. Default: any free one. */
  readonly port?: number;
  /** This port if it is free. */
  readonly preferredPort?: number;
  /** Working folder, kept at stop (for tests with persistence). Default: a temporary folder. */
  readonly directory?: string;
  /** Further arguments, e.g. `['--appendonly', 'yes']` or `['--maxmemory', '10mb']`; they win over the defaults. */
  readonly arguments?: readonly string[];
  /** Told when the server has to be installed first. */
  readonly report?: (line: string) => void;
}

export interface RedisPart extends Part {
  /** `redis://127.0.0.1:PORT` */
  readonly url: string;
  readonly port: number;
  readonly pid: number;
  /** Settles when the server has ended, for whatever reason. */
  readonly ended: Promise<unknown>;
}

/**
 * Starts a server; ready when it accepts connections.
 * @throws PartError PROGRAM_MISSING (with what to install), PORT_TAKEN or PART_START_FAILED
 */
export async function startRedis(options: RedisOptions = {}): Promise<RedisPart> {
  const programs = options.programs ?? ['redis-server', 'valkey-server'];
  const file = await ensureCommand(programs, 'redis-server', options.report);
  const folder = options.directory ?? (await temporaryFolder('redis'));
  const discard = async () => {
    if (options.directory === undefined) await removePath(folder);
  };
  try {
    const { server, port } = await onFreePort(
      { fixed: options.port, preferred: options.preferredPort },
      async (free) => ({
        port: free,
        server: await startProcess({
          name: 'Redis',
          file,
          arguments: [
            ...['--port', String(free), '--bind', '127.0.0.1', '--dir', folder],
            ...['--save', '', '--appendonly', 'no', '--daemonize', 'no', '--loglevel', 'notice'],
            ...(options.arguments ?? []),
          ],
          folder,
          ready: (line) => line.includes('Ready to accept connections'),
          readyWithin: 10_000,
          endings: [['SIGTERM', 2_000]],
        }),
      }),
    );
    const stop = once(async () => {
      await server.stop();
      await discard();
    });
    return {
      name: 'Redis',
      url: `redis://127.0.0.1:${port}`,
      port,
      pid: server.pid,
      ended: server.ended,
      stop,
    };
  } catch (error) {
    await discard();
    throw error;
  }
}
