/**
 * A TCP proxy that fails the way networks do. Real servers show none of this on demand.
 *
 *     pass        forwards
 *     blackhole   keeps every socket open and forwards nothing: a half-open connection, a machine cut off
 *     refuse      accepts nothing new and breaks what is open
 *     deaf        forwards all but Postgres's NotificationResponse: LISTEN that is lost in silence
 */

import type { AddressInfo } from 'node:net';
import { connect, createServer, type Socket } from 'node:net';

export type ProxyMode = 'pass' | 'blackhole' | 'refuse' | 'deaf';

export interface TcpProxy {
  readonly port: number;
  /** The same URL, through this proxy. */
  through(url: string): string;
  set(mode: ProxyMode): void;
  /** Later connections go there. */
  redirect(url: string): void;
  /** Breaks what is open. */
  cut(): void;
  readonly connections: number;
  close(): Promise<void>;
}

export async function startTcpProxy(target: string): Promise<TcpProxy> {
  let mode: ProxyMode = 'pass';
  const postgres = target.startsWith('postgres');
  let { host, port } = place(target);
  const pairs = new Set<[Socket, Socket]>();
  const server = createServer((client) => {
    if (mode === 'refuse') {
      client.destroy();
      return;
    }
    const upstream = connect(port, host);
    const pair: [Socket, Socket] = [client, upstream];
    pairs.add(pair);
    const end = () => {
      pairs.delete(pair);
      client.destroy();
      upstream.destroy();
    };
    for (const socket of pair) {
      socket.setNoDelay(true);
      socket.on('error', end);
      socket.on('close', end);
    }
    const filter = postgres ? withoutNotifications() : (chunk: Buffer) => chunk;
    client.on('data', (chunk) => {
      if (mode !== 'blackhole') upstream.write(chunk);
    });
    upstream.on('data', (chunk) => {
      if (mode === 'blackhole') return;
      const filtered = filter(chunk, mode === 'deaf');
      if (filtered.length > 0) client.write(filtered);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const own = (server.address() as AddressInfo).port;
  const cut = () => {
    for (const [client, upstream] of [...pairs]) {
      client.destroy();
      upstream.destroy();
    }
  };
  return {
    port: own,
    through: (url) => {
      const changed = new URL(url);
      changed.hostname = '127.0.0.1';
      changed.port = String(own);
      return changed.href;
    },
    set: (next) => {
      mode = next;
      if (next === 'refuse') cut();
    },
    redirect: (url) => {
      ({ host, port } = place(url));
    },
    cut,
    get connections() {
      return pairs.size;
    },
    close: () =>
      new Promise((resolve) => {
        cut();
        server.close(() => resolve());
      }),
  };
}

function place(url: string): { host: string; port: number } {
  const { hostname, port, protocol } = new URL(url);
  return { host: hostname, port: Number(port || (protocol.startsWith('postgres') ? 5432 : 80)) };
}

/** Follows the messages of Postgres's protocol from the server, and can leave out those of type `A`. */
function withoutNotifications(): (chunk: Buffer, drop: boolean) => Buffer {
  let pending = Buffer.alloc(0);
  return (chunk, drop) => {
    pending = Buffer.concat([pending, chunk]);
    const kept: Buffer[] = [];
    while (pending.length >= 5) {
      const length = 1 + pending.readInt32BE(1);
      if (pending.length < length) break;
      const message = pending.subarray(0, length);
      pending = pending.subarray(length);
      if (!(drop && message[0] === 0x41)) kept.push(message);
    }
    return Buffer.concat(kept);
  };
}
