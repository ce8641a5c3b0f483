/**
 * The worker for `npm run dev`: built anew and restarted, on the same port, whenever a source of it changes. A source that does
 * not build leaves the running worker as it is.
 */
import { context } from 'esbuild';
import { buildWorker, startWorker, WORKER_ENTRY, type WorkerOptions, type WorkerPart } from './worker.ts';

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
  let restarting = Promise.resolve();

  const restart = async () => {
    if (stopping) return;
    try {
      await buildWorker(true);
      await current?.stop();
      current = undefined;
      current = await startWorker({ ...options, port });
      report('The worker was restarted.');
    } catch (error) {
      report(`${error instanceof Error ? error.message : String(error)}\nThe next change tries again.`);
    }
  };
  const stopWatching = await watchSources(WORKER_ENTRY, () => {
    restarting = restarting.then(restart);
  });
  return {
    name: first.name,
    url: first.url,
    pid: first.pid,
    // A worker that ends by itself is reported like one that is restarted: in the log that is shown.
    ended: new Promise(() => undefined),
    async stop() {
      stopping = true;
      await stopWatching();
      await restarting;
      await current?.stop();
    },
  };
}

/**
 * Watches a source and all that it imports, until the returned function is called. esbuild looks at the files themselves, so it
 * also sees one that was replaced; within two seconds.
 * @param onChange called after each change, also for one that does not build
 */
export async function watchSources(entry: string, onChange: () => void): Promise<() => Promise<void>> {
  let builds = 0;
  let isWatching: () => void;
  const watching = new Promise<void>((resolve) => {
    isWatching = resolve;
  });
  const sources = await context({
    entryPoints: [entry],
    bundle: true,
    write: false,
    format: 'esm',
    platform: 'node',
    packages: 'external',
    // What does not build is told by buildWorker().
    logLevel: 'silent',
    plugins: [
      {
        name: 'on-change',
        setup: (build) =>
          build.onEnd(() => {
            if (++builds > 1) onChange();
            else isWatching();
          }),
      },
    ],
  });
  await sources.watch();
  await watching;
  return () => sources.dispose();
}
