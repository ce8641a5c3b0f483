/**
 * The edge functions under real Deno, one process a function as the platform has one isolate a function: each with its own
 * deno.json, its own module state, and no access to the file system's writing side or to other programs. A small router
 * stands in front, starts a function with its first request (or earlier, see `warm`) and again after it crashed.
 *
 * `npm:` specifiers resolve from this repository's node_modules and nothing is ever downloaded, so the functions' folder
 * must lie inside the repository.
 */
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { answerJson, forward } from './forward.ts';
import { startHttp } from './http.ts';
import { once, type Part, PartError } from './part.ts';
import { type RunningProcess, startProcess } from './process.ts';

export interface FunctionsOptions {
  /** What the functions find in Deno.env; see docs/functions.md for the names. Nothing of this process's is passed on. */
  readonly environment: Readonly<Record<string, string>>;
  /** Default supabase/functions of this repository. */
  readonly folder?: string;
  /** Exactly this port for the router. */
  readonly port?: number;
  /** This port if it is free. */
  readonly preferredPort?: number;
  /** What the functions write, a line at a time. */
  readonly onLine?: (name: string, line: string) => void;
}

export interface FunctionsPart extends Part {
  /** `http://127.0.0.1:PORT/functions/v1`; a function is at `/NAME` below it. */
  readonly url: string;
  /** The functions there are. */
  readonly names: readonly string[];
  /** Starts functions before their first request; default all, one after the other. Failures show with the request. */
  warm(names?: readonly string[]): Promise<void>;
}

interface RunningFunction {
  readonly process: RunningProcess;
  readonly port: number;
}

const repository = fileURLToPath(new URL('../..', import.meta.url));
const host = fileURLToPath(new URL('function-host.deno.ts', import.meta.url));

/** @throws PartError PROGRAM_MISSING or PORT_TAKEN; a function that does not start is answered with 503 instead */
export async function startFunctions(options: FunctionsOptions): Promise<FunctionsPart> {
  const folder = options.folder ?? join(repository, 'supabase/functions');
  const deno = denoBinary();
  const cache = join(repository, 'node_modules/.cache/fencepost-deno');
  mkdirSync(cache, { recursive: true });
  const environment = {
    PATH: process.env.PATH ?? '/usr/bin:/bin',
    // Compiled modules: a second start takes a third of the time.
    DENO_DIR: cache,
    DENO_NO_UPDATE_CHECK: '1',
    NO_COLOR: '1',
    ...options.environment,
  };
  const running = new Map<string, Promise<RunningFunction>>();
  let stopping = false;

  const run = async (name: string): Promise<RunningFunction> => {
    let port = 0;
    const configuration = join(folder, name, 'deno.json');
    const child = await startProcess({
      name: `The edge function ${name}`,
      file: deno,
      arguments: [
        ...['run', '--quiet', '--no-prompt', '--no-lock', '--cached-only', '--node-modules-dir=manual'],
        ...['--allow-net', '--allow-env', `--allow-read=${repository}`],
        ...(existsSync(configuration) ? ['--config', configuration] : []),
        host,
        pathToFileURL(join(folder, name, 'index.ts')).href,
      ],
      inheritEnvironment: false,
      environment,
      folder: repository,
      ready: (line) => {
        port = Number(/^function ready on (\d+)$/.exec(line)?.[1] ?? 0);
        return port !== 0;
      },
      onLine: (line) => {
        if (!line.startsWith('function ready on ')) options.onLine?.(name, line);
      },
      readyWithin: 20_000,
      endings: [['SIGTERM', 1_500]],
    });
    void child.ended.then(() => running.delete(name));
    return { process: child, port };
  };
  const ensure = (name: string): Promise<RunningFunction> => {
    const present = running.get(name);
    if (present !== undefined) return present;
    const starting = run(name);
    running.set(name, starting);
    starting.catch(() => running.delete(name));
    return starting;
  };

  const answer = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => {
    const { pathname, search } = new URL(incoming.url ?? '/', 'http://router');
    // The prefix may be missing or doubled: clients are configured with and without it.
    const path = pathname.replace(/^(\/functions\/v1)+(?=\/|$)/, '');
    const name = path.split('/')[1] ?? '';
    if (!namesIn(folder).includes(name)) {
      answerJson(outgoing, 404, { code: 'NOT_FOUND', message: 'Requested function was not found' });
      return;
    }
    try {
      if (stopping) throw new PartError('PART_START_FAILED', 'The stack is stopping.');
      const { port } = await ensure(name);
      forward(incoming, outgoing, new URL(`http://127.0.0.1:${port}${path}${search}`), {}, () =>
        answerJson(outgoing, 502, {
          code: 'WORKER_ERROR',
          message: 'Function exited before it had answered',
        }),
      );
    } catch (error) {
      // What it wrote has been passed on already; the first line says that it did not start.
      options.onLine?.(name, String(error instanceof Error ? error.message : error).split('\n', 1)[0] ?? '');
      answerJson(outgoing, 503, {
        code: 'BOOT_ERROR',
        message: 'Function failed to start (please check logs)',
      });
    }
  };

  const router = await startHttp({
    name: 'Edge functions',
    port: options.port,
    preferredPort: options.preferredPort,
    listener: (incoming, outgoing) => void answer(incoming, outgoing),
  });
  const stop = once(async () => {
    stopping = true;
    await router.stop();
    const all = await Promise.allSettled(running.values());
    await Promise.all(
      all.map((outcome) => (outcome.status === 'fulfilled' ? outcome.value.process.stop() : undefined)),
    );
  });
  return {
    name: 'Edge functions',
    url: `${router.url}/functions/v1`,
    names: namesIn(folder),
    async warm(names = namesIn(folder)) {
      for (const name of names) if (!stopping) await ensure(name).catch(() => undefined);
    },
    stop,
  };
}

/** Folders with an index.ts; those beginning with `_` hold what functions share. */
function namesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter(
    (name) => !name.startsWith('_') && existsSync(join(folder, name, 'index.ts')),
  );
}

function denoBinary(): string {
  const require = createRequire(import.meta.url);
  try {
    const folder = dirname(require.resolve('deno/package.json'));
    const file = join(folder, process.platform === 'win32' ? 'deno.exe' : 'deno');
    // Usually a link made when the package was installed; where install scripts are off, the package does it now.
    if (existsSync(file)) return file;
    const { runInstall } = require('deno/install_api.cjs') as { runInstall(): string };
    return runInstall();
  } catch (cause) {
    throw new PartError(
      'PROGRAM_MISSING',
      'Deno is not installed. Run `npm install` again without --omit=optional.',
      {
        cause,
      },
    );
  }
}
