/**
 * Counts invalidations at the only place that matters: Redis itself. A fence is set for each target before its write,
 * and keyspace notifications tell when it is deleted. A write whose fence is not deleted after it is a lost invalidation.
 */
import { createClient } from 'redis';

export interface FenceWatch {
  /** Sets the fences, so that their deletion is seen. */
  arm(keys: readonly string[]): Promise<void>;
  /** Resolves when each of these has been deleted since it was armed. */
  deleted(keys: readonly string[]): Promise<void>;
  missing(): string[];
  close(): Promise<void>;
}

export async function watchFences(redisUrl: string): Promise<FenceWatch> {
  const commands = createClient({ url: redisUrl });
  const events = createClient({ url: redisUrl });
  for (const client of [commands, events]) client.on('error', () => undefined);
  await Promise.all([commands.connect(), events.connect()]);
  // E: key events; g: generic commands, of which DEL is one.
  await commands.configSet('notify-keyspace-events', 'Eg');
  const armed = new Set<string>();
  const waiting = new Set<() => void>();
  await events.pSubscribe('__keyevent@*__:del', (key) => {
    if (armed.delete(key)) for (const look of waiting) look();
  });
  return {
    async arm(keys) {
      for (let from = 0; from < keys.length; from += 5_000) {
        const page = keys.slice(from, from + 5_000);
        await commands.mSet(page.map((key) => [key, 'armed'] as [string, string]));
        for (const key of page) armed.add(key);
      }
    },
    deleted: (keys) =>
      new Promise((resolve) => {
        const left = new Set(keys);
        const look = () => {
          for (const key of left) if (!armed.has(key)) left.delete(key);
          if (left.size > 0) return;
          waiting.delete(look);
          resolve();
        };
        waiting.add(look);
        look();
      }),
    missing: () => [...armed],
    async close() {
      await Promise.allSettled([events.close(), commands.close()]);
    },
  };
}
