/**
 * The worker for `npm run dev`: built anew and restarted, on the same port, whenever a source of it changes. A source that does
 * not build leaves the running worker as it is.
 */
import { watch } from 'node:fs';
import { buildWorker, startWorker, WORKER_SOURCES, type WorkerOptions, type WorkerPart } from './worker.ts';

/** Editors write a file in several steps: changes this close together, in milliseconds, are one. */
const SETTLE_MS = 150;

/**
 * Starts the worker and watches its sources.
 * @param report told of every restart, and why one failed
 * @throws PartError as startWorker, for the first start only
 */
export async function startReloadingWorker(
  options: WorkerOptions,
  report: (line: string) => void,
): Promise<WorkerPart> {
  const first = await startWorker(options);
  const port = Number(new URL(first.url).port);
  let current: WorkerPart | undefined = first;
  let stopping = false;
  let settle: NodeJS.Timeout | undefined;
  let restarting = Promise.resolve();

  const restart = async () => {
    if (stopping) return;
    try {
      await buildWorker();
      await current?.stop();
      current = undefined;
      current = await startWorker({ ...options, port });
      report('The worker was restarted.');
    } catch (error) {
      report(`${error instanceof Error ? error.message : String(error)}\nThe next change tries again.`);
    }
  };
  const watchers = WORKER_SOURCES.map((path) =>
    watch(path, { recursive: true }, (_event, name) => {
      if (name?.endsWith('.test.ts')) return;
      clearTimeout(settle);
      settle = setTimeout(() => {
        restarting = restarting.then(restart);
      }, SETTLE_MS);
    }),
  );
  return {
    name: first.name,
    url: first.url,
    pid: first.pid,
    // A worker that ends by itself is reported like one that is restarted: in the log that is shown.
    ended: new Promise(() => undefined),
    async stop() {
      stopping = true;
      clearTimeout(settle);
      for (const watcher of watchers) watcher.close();
      await restarting;
      await current?.stop();
    },
  };
}
