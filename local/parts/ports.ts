/**
 * Free ports for the parts. Another stack or test run may take a port between finding it and listening on it, so both are
 * one operation, which tries again with another port.
 */
import getPort from 'get-port';
import { PartError } from './part.ts';

const ATTEMPTS = 6;

/**
 * Runs `start` with a port it can listen on.
 * @param fixed exactly this port, and no other: PORT_TAKEN is then the caller's to handle
 * @param preferred this port if it is free, else any: addresses stay the same from one start to the next
 */
export async function onFreePort<T>(
  ports: { fixed?: number | undefined; preferred?: number | undefined },
  start: (port: number) => Promise<T>,
): Promise<T> {
  if (ports.fixed !== undefined && ports.fixed !== 0) return await start(ports.fixed);
  for (let attempt = 1; ; attempt += 1) {
    const wish = attempt === 1 && ports.preferred !== undefined ? { port: ports.preferred } : {};
    const port = await getPort({ host: '127.0.0.1', ...wish });
    try {
      return await start(port);
    } catch (error) {
      const taken = error instanceof PartError && error.code === 'PORT_TAKEN';
      if (!taken || attempt === ATTEMPTS) throw error;
    }
  }
}
