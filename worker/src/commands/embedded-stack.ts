/**
 * A command beside a running embedded stack (`npm start`) works against that stack when the environment names no database and no
 * Redis, and says so in one line on standard error, so that --json stays one document.
 *
 * The stack names its parts in stack.json, in the folder FENCEPOST_LOCAL_DIR or else in .local of this folder or the nearest one
 * above it. A variable that is set, also by .env, names a project: then no stack is looked for. `run` becomes a second worker,
 * which stands by, on a free port.
 */
import { readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { dirname, join, relative } from 'node:path';
import { z } from 'zod';
import { ExitCode, WorkerError } from '../lib/errors.ts';

const PROJECT = ['DATABASE_URL', 'UPSTASH_REDIS_REST_URL', 'UPSTASH_REDIS_REST_TOKEN'];
const CONNECT_WITHIN_MS = 2_000;

const stackFile = z.object({ databaseUrl: z.url(), upstashUrl: z.url(), upstashToken: z.string().min(1) });

/**
 * Sets the variables of the stack that runs here, if the environment names no project.
 *
 * @throws WorkerError NO_STACK when a stack.json was left behind by a stack that is gone
 */
export async function useEmbeddedStack(variables: NodeJS.ProcessEnv, folder: string): Promise<void> {
  if (PROJECT.some((name) => (variables[name] ?? '').trim() !== '')) return;
  const found = find(variables.FENCEPOST_LOCAL_DIR, folder);
  if (found === null) return;
  const { path, text } = found;
  const shown = relative(folder, path);
  const stack = parse(text);
  if (stack === null) throw gone(`${shown} does not name the parts of an embedded stack.`, shown);
  const { hostname, port } = new URL(stack.databaseUrl);
  if (!(await listens(hostname, Number(port))))
    throw gone(`${shown} names an embedded stack that does not run any more.`, shown);
  variables.DATABASE_URL = stack.databaseUrl;
  variables.UPSTASH_REDIS_REST_URL = stack.upstashUrl;
  variables.UPSTASH_REDIS_REST_TOKEN = stack.upstashToken;
  variables.PORT ||= '0';
  process.stderr.write(
    `fencepost: using the embedded stack of ${shown}, as the environment names no project.\n`,
  );
}

function find(localFolder: string | undefined, folder: string): { path: string; text: string } | null {
  const path = join(localFolder || join(folder, '.local'), 'stack.json');
  try {
    return { path, text: readFileSync(path, 'utf8') };
  } catch {
    // No such file, or none that this user may read: its database's password is not for everybody.
    const parent = dirname(folder);
    return localFolder || parent === folder ? null : find(undefined, parent);
  }
}

function parse(text: string): z.output<typeof stackFile> | null {
  try {
    return stackFile.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

function listens(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port, timeout: CONNECT_WITHIN_MS });
    const settle = (answer: boolean) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => settle(true));
    socket.once('error', () => settle(false));
    socket.once('timeout', () => settle(false));
  });
}

function gone(problem: string, path: string): WorkerError {
  return new WorkerError(
    'NO_STACK',
    `${problem} Delete ${path} and start the stack again with "npm start", or set ${PROJECT.join(', ')}.`,
    { exitCode: ExitCode.configuration },
  );
}
