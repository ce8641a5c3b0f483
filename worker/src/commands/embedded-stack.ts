/**
 * A command beside a running embedded stack (`npm start`) works against that stack when the environment names no database and no
 * Redis. One line says so, or where no stack was found; on standard error, so that --json stays one document.
 *
 * The stack names its parts in stack.json, in the folder FENCEPOST_LOCAL_DIR or else in .local of this folder or the nearest one
 * above it. A file of another user is passed over, as it could name any database. A variable that is set, also by .env, names a
 * project: then no stack is looked for. `run` becomes a second worker, which stands by, on a free port unless PORT is set.
 */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { dirname, join, relative } from 'node:path';
import { z } from 'zod';
import { ExitCode, WorkerError } from '../lib/errors.ts';

const PROJECT = ['DATABASE_URL', 'UPSTASH_REDIS_REST_URL', 'UPSTASH_REDIS_REST_TOKEN'];
const CONNECT_WITHIN_MS = 2_000;

const stackFile = z.object({
  databaseUrl: z.url(),
  upstashUrl: z.url(),
  upstashToken: z.string().min(1),
  cachePrefix: z.string().default(''),
});

/**
 * Sets the variables of the stack that runs here, if the environment names no project.
 *
 * @param tell gets the line that says which stack is used, or where none was found
 * @throws WorkerError NO_STACK when a stack.json was left behind by a stack that is gone, CONFIGURATION when CACHE_PREFIX is
 *   another one than the stack's: under other keys a worker would confirm what it never deleted
 */
export async function useEmbeddedStack(
  variables: NodeJS.ProcessEnv,
  folder: string,
  tell = (line: string): void => void process.stderr.write(`fencepost: ${line}\n`),
): Promise<void> {
  const isSet = (name: string) => (variables[name] ?? '').trim() !== '';
  if (PROJECT.some(isSet)) return;
  const localFolder = variables.FENCEPOST_LOCAL_DIR?.trim();
  const found = find(localFolder, folder);
  if (found === null) {
    const place = localFolder
      ? join(localFolder, 'stack.json')
      : '.local/stack.json here or in a folder above';
    tell(`the environment names no project, and no embedded stack is up: there is no ${place} of this user.`);
    return;
  }
  const { path, text } = found;
  const shown = relative(folder, path);
  const stack = parse(text);
  if (stack === null) throw gone(`${shown} does not name the parts of an embedded stack.`, shown);
  const { hostname, port } = new URL(stack.databaseUrl);
  if (!(await listens(hostname, Number(port))))
    throw gone(`${shown} names an embedded stack that does not run any more.`, shown);
  const prefix = variables.CACHE_PREFIX?.trim();
  if (prefix && prefix !== stack.cachePrefix)
    throw new WorkerError(
      'CONFIGURATION',
      `CACHE_PREFIX is "${prefix}", but the embedded stack of ${shown} runs with "${stack.cachePrefix}": take CACHE_PREFIX out, or start the stack again with it.`,
      { exitCode: ExitCode.configuration },
    );
  variables.DATABASE_URL = stack.databaseUrl;
  variables.UPSTASH_REDIS_REST_URL = stack.upstashUrl;
  variables.UPSTASH_REDIS_REST_TOKEN = stack.upstashToken;
  variables.CACHE_PREFIX = stack.cachePrefix;
  if (!isSet('PORT')) variables.PORT = '0';
  tell(`using the embedded stack of ${shown}, as the environment names no project.`);
}

function find(localFolder: string | undefined, folder: string): { path: string; text: string } | null {
  const path = join(localFolder || join(folder, '.local'), 'stack.json');
  const text = readOwn(path);
  if (text !== null) return { path, text };
  const parent = dirname(folder);
  return localFolder || parent === folder ? null : find(undefined, parent);
}

/** The text of a file of this user; null when there is none. Windows knows no owner. */
function readOwn(path: string): string | null {
  let file: number | undefined;
  try {
    file = openSync(path, 'r');
    const user = process.getuid?.();
    return user === undefined || fstatSync(file).uid === user ? readFileSync(file, 'utf8') : null;
  } catch {
    return null;
  } finally {
    if (file !== undefined) closeSync(file);
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
