/**
 * The worker as a part: the same program that is deployed, in a process of its own. It is built first when its sources
 * are newer than the build: loading TypeScript on the fly takes several times as long as the build's output.
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { waitForHttp } from './http.ts';
import type { Part } from './part.ts';
import { onFreePort } from './ports.ts';
import { runToEnd, startProcess } from './process.ts';

export interface WorkerOptions {
  readonly databaseUrl: string;
  readonly upstashUrl: string;
  readonly upstashToken: string;
  /** Further variables: QUEUE_REDIS_URL, CACHE_PREFIX, FENCEPOST_… */
  readonly environment?: Readonly<Record<string, string>>;
  /** Exactly this port. */
  readonly port?: number;
  /** This port if it is free. */
  readonly preferredPort?: number;
  /** What the worker writes, a line at a time. */
  readonly onLine?: (line: string) => void;
}

export interface WorkerPart extends Part {
  /** Where /healthz, /readyz, /metrics and the dashboard are. */
  readonly url: string;
  readonly pid: number;
  /** Settles when the worker has ended, for whatever reason. */
  readonly ended: Promise<unknown>;
}

const repository = fileURLToPath(new URL('../..', import.meta.url));
const worker = join(repository, 'worker');
const program = join(worker, 'dist/cli.js');

/** What the program is built from, with all that it imports. */
export const WORKER_ENTRY = join(worker, 'src/cli.ts');

/**
 * Builds (unless the build is up to date) and starts the worker; ready when /readyz says that changes flow.
 * @throws PartError PART_START_FAILED with the worker's own explanation, or PORT_TAKEN
 */
export async function startWorker(options: WorkerOptions): Promise<WorkerPart> {
  await buildWorker();
  return await onFreePort({ fixed: options.port, preferred: options.preferredPort }, async (port) => {
    const child = await startProcess({
      name: 'The worker',
      file: process.execPath,
      arguments: ['--enable-source-maps', program, 'run'],
      // Its `.env` would be read from here; a local stack has nothing to do with the project that one describes.
      folder: join(worker, 'dist'),
      inheritEnvironment: false,
      environment: {
        PATH: process.env.PATH ?? '/usr/bin:/bin',
        DATABASE_URL: options.databaseUrl,
        UPSTASH_REDIS_REST_URL: options.upstashUrl,
        UPSTASH_REDIS_REST_TOKEN: options.upstashToken,
        FENCEPOST_LOG: 'pretty',
        HOST: '127.0.0.1',
        PORT: String(port),
        ...options.environment,
      },
      ...(options.onLine === undefined ? {} : { onLine: options.onLine }),
      endings: [['SIGTERM', 2_500]],
    });
    const url = `http://127.0.0.1:${port}`;
    try {
      await waitForHttp(`${url}/readyz`, child, 'The worker', (answer) =>
        Number(answer.headers.get('fencepost-process')),
      );
    } catch (error) {
      await child.stop();
      throw error;
    }
    return { name: 'Worker', url, pid: child.pid, ended: child.ended, stop: child.stop };
  });
}

/**
 * Builds worker/dist if a source is newer, or has changed.
 * @throws PartError PART_START_FAILED with the compiler's message
 */
export async function buildWorker(changed = false): Promise<void> {
  const builtAt = existsSync(program) ? statSync(program).mtimeMs : 0;
  const sources = ['src', '../supabase/functions/_shared', 'build.mjs', 'package.json'].map((path) =>
    join(worker, path),
  );
  if (!changed && Math.max(...sources.map(newest)) < builtAt) return;
  await runToEnd({
    name: 'Building the worker',
    file: process.execPath,
    arguments: [join(worker, 'build.mjs')],
    folder: worker,
    readyWithin: 60_000,
  });
}

/** When the file, or the youngest file below the folder, was changed; milliseconds since 1970. */
function newest(path: string): number {
  const status = statSync(path);
  if (!status.isDirectory()) return status.mtimeMs;
  return Math.max(
    0,
    ...readdirSync(path)
      .filter((name) => !/\.test\.ts$/.test(name))
      .map((name) => newest(join(path, name))),
  );
}
